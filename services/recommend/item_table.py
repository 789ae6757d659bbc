"""The catalogue's items as columns that can lie in files: what filters and rules ask, and each record as on the wire.

Titles and texts are in the records alone, so mapped from a file they take no memory until somebody reads them.
"""

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from services.recommend.ragged import Ragged, Texts, joined_bytes, joined_texts, ragged, texts_of
from streaming.codec import decode, encode
from streaming.events import ItemUpserted
from streaming.ids import ItemId

Mask = NDArray[np.bool_]
Value = str | float | bool

FOREVER = np.iinfo(np.int64).max
_VALUES = msgspec.json.Decoder(list[str | float | bool])


@dataclass(frozen=True)
class Attribute:
    """One attribute: places of the items that have it, ascending, int32[n], and the code of each one's value.

    `values` is a JSON array of the distinct values by code: as Python objects they would take several times the room.
    """

    items: NDArray[np.int32]
    codes: NDArray[np.int32]
    values: bytes

    def distinct(self) -> list[Value]:
        """Return the values by code."""
        return _VALUES.decode(self.values)

    def only(self, kept: Mask) -> "Attribute":
        """Return what it is of the items that `kept`, bool[items], marks."""
        among = kept[self.items]
        places = np.cumsum(kept) - 1
        used, codes = np.unique(self.codes[among], return_inverse=True)
        values = self.distinct()
        return Attribute(
            places[self.items[among]].astype(np.int32),
            codes.astype(np.int32),
            msgspec.json.encode([values[code] for code in used.tolist()]),
        )

    def joined(self, other: "Attribute", first: int) -> "Attribute":
        """Return both as one, the items of `other` coming after `first` others."""
        values, others = self.distinct(), other.distinct()
        known = {value_key(value): code for code, value in enumerate(values)}
        codes = np.array([known.setdefault(value_key(value), len(known)) for value in others], dtype=np.int32)
        new = [value for value, code in zip(others, codes.tolist(), strict=True) if code >= len(values)]
        return Attribute(
            np.concatenate((self.items, other.items + np.int32(first))),
            np.concatenate((self.codes, codes[other.codes])),
            msgspec.json.encode([*values, *new]),
        )


NO_ATTRIBUTE = Attribute(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32), b"[]")


@dataclass(frozen=True)
class ItemTable:
    """Items by place: `item_ids`, their newest `records` as JSON, and columns of them.

    `shown` is false for a hidden item; it may be shown from `starts` up to `ends`, ms; `ties` are hashes of the ids.
    `categories` are codes, whose names are `category_names`.
    """

    item_ids: Texts
    records: Texts
    shown: Mask
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    ties: NDArray[np.int64]
    happened_at: NDArray[np.int64]
    categories: Ragged[np.int32]
    category_names: Sequence[str]
    attributes: Mapping[str, Attribute]

    def __len__(self) -> int:
        return len(self.shown)

    @classmethod
    def of(cls, items: Iterable[ItemUpserted]) -> "ItemTable":
        """Lay items out, of which no two have one id."""
        given = list(items)
        codes: dict[str, int] = {}
        categories = [[codes.setdefault(name, len(codes)) for name in dict.fromkeys(item.categories)] for item in given]
        return cls(
            item_ids=joined_texts(item.item_id for item in given),
            records=joined_bytes(encode(item) for item in given),
            shown=np.array([not item.hidden for item in given], dtype=np.bool_),
            starts=np.array([item.available_from or 0 for item in given], dtype=np.int64),
            ends=np.array([end_of(item) for item in given], dtype=np.int64),
            ties=np.array([tie_of(item) for item in given], dtype=np.int64),
            happened_at=np.array([item.happened_at for item in given], dtype=np.int64),
            categories=ragged(categories, np.int32),
            category_names=tuple(codes),
            attributes=_attributes(given),
        )

    def ids(self) -> list[ItemId]:
        """Return the items' ids by place."""
        return [ItemId(text) for text in texts_of(self.item_ids)]

    def item(self, place: int) -> ItemUpserted:
        """Return an item as its newest record has it."""
        item = decode(self.records[place].tobytes())
        if not isinstance(item, ItemUpserted):
            raise TypeError(f"the record in place {place} of a catalogue is no item")
        return item

    def only(self, kept: Mask) -> "ItemTable":
        """Return the items that `kept`, bool[items], marks, in their order."""
        categories = self.categories.only(kept)
        used, codes = np.unique(categories.values, return_inverse=True)
        return replace(
            self,
            item_ids=self.item_ids.only(kept),
            records=self.records.only(kept),
            **{name: getattr(self, name)[kept] for name in _COLUMNS},
            categories=Ragged(codes.astype(np.int32), categories.starts),
            category_names=tuple(self.category_names[code] for code in used.tolist()),
            attributes={name: attribute.only(kept) for name, attribute in self.attributes.items()},
        )

    def joined(self, other: "ItemTable") -> "ItemTable":
        """Return the items of this table, then those of `other`; no id may be in both."""
        codes = {name: code for code, name in enumerate(self.category_names)}
        theirs = np.array([codes.setdefault(name, len(codes)) for name in other.category_names], dtype=np.int32)
        categories = Ragged(theirs[other.categories.values], other.categories.starts)
        return ItemTable(
            item_ids=self.item_ids.joined(other.item_ids),
            records=self.records.joined(other.records),
            **{name: np.concatenate((getattr(self, name), getattr(other, name))) for name in _COLUMNS},
            categories=self.categories.joined(categories),
            category_names=tuple(codes),
            attributes={
                name: self.attributes.get(name, NO_ATTRIBUTE).joined(
                    other.attributes.get(name, NO_ATTRIBUTE), len(self)
                )
                for name in dict.fromkeys((*self.attributes, *other.attributes))
            },
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays by name."""
        names = joined_texts(self.category_names)
        attributes = joined_texts(self.attributes)
        each = list(self.attributes.values())
        lists: dict[str, Ragged[Any]] = {
            "item_ids": self.item_ids,
            "records": self.records,
            "categories": self.categories,
            "category_names": names,
            "attribute_names": attributes,
            "attribute_items": ragged((), np.int32) if not each else _stacked([one.items for one in each]),
            "attribute_codes": ragged((), np.int32) if not each else _stacked([one.codes for one in each]),
            "attribute_values": joined_bytes(one.values for one in each),
        }
        found: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _COLUMNS}
        for name, value in lists.items():
            found |= {name: value.values, f"{name}_starts": value.starts}
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> "ItemTable":
        """Return the table whose `arrays` these are; raises KeyError when one is missing."""

        def read(name: str) -> Ragged[Any]:
            return Ragged(arrays[name], arrays[f"{name}_starts"])

        items, codes, values = read("attribute_items"), read("attribute_codes"), read("attribute_values")
        return cls(
            item_ids=read("item_ids"),
            records=read("records"),
            **{name: arrays[name] for name in _COLUMNS},
            categories=read("categories"),
            category_names=tuple(texts_of(read("category_names"))),
            attributes={
                name: Attribute(items[number], codes[number], values[number].tobytes())
                for number, name in enumerate(texts_of(read("attribute_names")))
            },
        )


_COLUMNS = ("shown", "starts", "ends", "ties", "happened_at")


def end_of(item: ItemUpserted) -> int:
    """Return from when on an item may not be shown any more, ms."""
    return FOREVER if item.available_until is None else item.available_until


def tie_of(item: ItemUpserted) -> int:
    """Return a hash of an item's id that is the same in every process."""
    return zlib.crc32(item.item_id.encode())


def value_key(value: Value) -> tuple[type, Value]:
    """Return what tells an attribute's values apart: as dictionary keys true and 1 are one."""
    return (bool, value) if isinstance(value, bool) else (str, value) if isinstance(value, str) else (float, value)


def _attributes(items: Sequence[ItemUpserted]) -> dict[str, Attribute]:
    places: dict[str, list[int]] = {}
    values: dict[str, list[Value]] = {}
    for place, item in enumerate(items):
        for name, value in item.attributes.items():
            places.setdefault(name, []).append(place)
            values.setdefault(name, []).append(value)
    return {name: _attribute(places[name], values[name]) for name in places}


def _attribute(places: Sequence[int], values: Sequence[Value]) -> Attribute:
    distinct = {value_key(value): value for value in values}
    known = {key: code for code, key in enumerate(distinct)}
    codes = np.array([known[value_key(value)] for value in values], dtype=np.int32)
    return Attribute(np.array(places, dtype=np.int32), codes, msgspec.json.encode(list(distinct.values())))


def _stacked(parts: Sequence[NDArray[np.int32]]) -> Ragged[np.int32]:
    lengths = np.array([len(part) for part in parts], dtype=np.int64)
    starts = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))
    return Ragged(np.concatenate(parts), starts)
