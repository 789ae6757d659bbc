"""MovieLens-100K as the lake's tables and slices, made without the lake: what `flywheel train` and `evaluate` read.

The examples follow `features/labels.py` (latest positive acts, one a user and second; half of the negatives popular,
half uniform, none of them ever chosen by the user; features as of the day's start), drawn by another generator.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa

from features.history import HistoryEvent
from models.content import ItemContent
from models.dataset import Tables
from models.slices import Past, Slice
from streaming.dataset import DataSet, InteractionRecord
from streaming.ids import EventId, ItemId, UserId

DAY_MS = 86_400_000
_STAMP = pa.timestamp("ms", "UTC")
_POSITIVES, _NEGATIVES = 4_000, 50

Records = Sequence[InteractionRecord]


def slice_of(data: DataSet, train: Records, test: Records) -> Slice:
    """Return the slice that begins with the first record of `test`, the whole catalogue being known before."""
    users: dict[UserId, Past] = defaultdict(Past)
    for record in train:
        users[record.user_id].events.append(
            HistoryEvent(record.time, _event_id(record), record.item_id, record.kind, record.value)
        )
    for record in test:
        users[record.user_id].later.add(record.item_id)
    start, known = test[0].time, _Features(train)
    return Slice(start, users, {user: known.of_user(user, start) for user in users}, _contents(data, train))


def tables_of(data: DataSet, train: Records, until: int, seed: int) -> Tables:
    """Return what training on `train` reads; `seed` draws the negatives."""
    features = _Features(train)
    names = sorted({record.item_id for record in train})
    return Tables(
        interactions=_interactions(train),
        items=_items(data, names),
        item_features=_rows(
            [{"item_id": name, "event_timestamp": until} | features.of_item(name, until) for name in names]
        ),
        examples=_rows(_examples(data, train, features, np.random.default_rng(seed))),
        until=until,
    )


def _interactions(train: Records) -> pa.Table:
    rows = [
        {
            "event_id": _event_id(record),
            "happened_at": record.time,
            "user_id": record.user_id,
            "item_id": record.item_id,
            "kind": record.kind.value,
            "value": record.value,
        }
        for record in train
    ]
    nothing = pa.array([None] * len(rows), pa.string())
    return _rows(rows).append_column("session_id", nothing).append_column("surface", nothing)


def _items(data: DataSet, names: Sequence[ItemId]) -> pa.Table:
    known, first = {item.item_id: item for item in data.items}, data.interactions[0].time
    rows = [
        {
            "event_id": f"item-{name}",
            "happened_at": first,
            "item_id": name,
            "removed": False,
            "title": known[name].title,
            "categories": list(known[name].categories),
            "attributes": msgspec.json.encode(known[name].attributes).decode(),
            "text": "",
        }
        for name in names
    ]
    return _rows(rows)


def _contents(data: DataSet, train: Records) -> dict[ItemId, ItemContent | None]:
    known = {record.item_id for record in train}
    return {
        item.item_id: ItemContent(item.item_id, item.title, item.categories, item.attributes)
        for item in data.items
        if item.item_id in known
    }


@dataclass(frozen=True)
class _Series:
    """One id's events: times, ms, and the sums of values up to each."""

    times: np.ndarray
    sums: np.ndarray

    def before(self, time: int) -> tuple[int, float | None]:
        count = int(np.searchsorted(self.times, time))
        return count, float(self.sums[count - 1] / count) if count else None


class _Features:
    """Counts and mean values by user and item as of the start of a day, as the feature tables have them."""

    def __init__(self, train: Records) -> None:
        self._users = _series({record: record.user_id for record in train})
        self._items = _series({record: record.item_id for record in train})

    def of_user(self, user_id: UserId, time: int) -> Mapping[str, float]:
        """Return a user's features, nothing for an unknown user."""
        count, mean = self._before(self._users, user_id, time)
        return {} if mean is None else {"interactions_total": float(count), "mean_value": mean}

    def of_item(self, item_id: ItemId, time: int) -> dict[str, float | None]:
        """Return an item's features by column."""
        count, mean = self._before(self._items, item_id, time)
        return {"item_interactions_total": float(count), "item_mean_value": mean}

    @staticmethod
    def _before(series: Mapping[str, _Series], name: str, time: int) -> tuple[int, float | None]:
        return series[name].before(time // DAY_MS * DAY_MS) if name in series else (0, None)


def _series(owners: Mapping[InteractionRecord, str]) -> dict[str, _Series]:
    own: dict[str, list[InteractionRecord]] = defaultdict(list)
    for record, owner in owners.items():
        own[owner].append(record)
    return {
        owner: _Series(np.array([one.time for one in records]), np.cumsum([one.value or 0.0 for one in records]))
        for owner, records in own.items()
    }


def _examples(data: DataSet, train: Records, features: _Features, rng: np.random.Generator) -> list[dict[str, object]]:
    chosen: dict[UserId, set[ItemId]] = defaultdict(set)
    for record in train:
        chosen[record.user_id].add(record.item_id)
    attributes = {user.user_id: msgspec.json.encode(user.attributes).decode() for user in data.users}
    negatives = _Negatives(train, rng)
    rows: list[dict[str, object]] = []
    for place in _latest_positives(train):
        record = train[place]
        popular, uniform = negatives.draw(place, chosen[record.user_id])
        user = {"interactions_total": None, "mean_value": None} | dict(features.of_user(record.user_id, record.time))
        drawn = [(record.item_id, "positive"), *((name, "popular") for name in popular)]
        drawn += [(name, "uniform") for name in uniform]
        rows += [
            {
                "group_id": _event_id(record),
                "user_id": record.user_id,
                "event_timestamp": record.time,
                "item_id": name,
                "label": int(sampling == "positive"),
                "sampling": sampling,
                "attributes": attributes[record.user_id],
            }
            | user
            | features.of_item(name, record.time)
            for name, sampling in drawn
        ]
    return rows


def _latest_positives(train: Records) -> list[int]:
    """Return the places of the latest acts, one for each user and second."""
    seconds = {(record.user_id, record.time // 1000): place for place, record in enumerate(train)}
    return sorted(seconds.values())[-_POSITIVES:]


class _Negatives:
    """Draws from the acts before a place, which favours popular items, and from the distinct items among them."""

    def __init__(self, train: Records, rng: np.random.Generator) -> None:
        self._items, self._rng = [record.item_id for record in train], rng
        firsts = {name: place for place, name in reversed(list(enumerate(self._items)))}
        self._distinct = sorted(firsts, key=firsts.__getitem__)
        self._places = np.sort(list(firsts.values()))

    def draw(self, place: int, chosen: set[ItemId]) -> tuple[list[ItemId], list[ItemId]]:
        """Return half of the negatives each way, fewer where the draws repeat or were chosen by the user."""
        known = int(np.searchsorted(self._places, place))
        popular = self._first(self._items, place, 4, chosen)
        return popular, self._first(self._distinct, known, 2, chosen | set(popular))

    def _first(self, names: Sequence[ItemId], below: int, draws: int, taken: set[ItemId]) -> list[ItemId]:
        half = _NEGATIVES // 2
        drawn = dict.fromkeys(names[at] for at in self._rng.integers(0, below, draws * half)) if below else {}
        return [name for name in drawn if name not in taken][:half]


def _rows(rows: Sequence[Mapping[str, object]]) -> pa.Table:
    table = pa.Table.from_pylist(list(rows))
    for name in ("happened_at", "event_timestamp"):
        if name in table.column_names:
            table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(_STAMP))
    return table


def _event_id(record: InteractionRecord) -> EventId:
    return EventId(f"e{record.number:06d}")
