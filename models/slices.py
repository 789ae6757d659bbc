"""What the lake holds around a moment: histories, catalogue and features before it, and what users came to after it."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from features.config import LakeSettings
from features.history import HistoryEvent
from features.snapshots import read_table
from models.columns import millis_of
from models.content import ItemContent
from models.heldout import Case
from models.log import kind_of
from streaming.dataset import InteractionRecord
from streaming.events import PROBE_SURFACE
from streaming.ids import EventId, ItemId, UserId
from streaming.namespace import Namespace

SLICE_COLUMNS = ("user_id", "item_id", "kind", "value", "happened_at", "event_id", "surface")
USER_COLUMNS = ("user_id", "event_timestamp", "interactions_30d", "interactions_total", "mean_value", "attributes")
ITEM_COLUMNS = ("event_id", "item_id", "title", "categories", "attributes", "text", "removed", "hidden")
_TIMES = ("happened_at", "available_from", "available_until")


@dataclass
class Past:
    """What a user did before the slice and the items that they came to within it."""

    events: list[HistoryEvent] = field(default_factory=list)
    later: set[ItemId] = field(default_factory=set)

    @property
    def seen(self) -> set[ItemId]:
        """The items of the history, which are not shown again."""
        return {event.item_id for event in self.events}

    @property
    def targets(self) -> set[ItemId]:
        """The later items that the user had not seen."""
        return self.later - self.seen


@dataclass(frozen=True)
class Slice:
    """The lake cut at `start` (ms): histories and features before it, targets from it on.

    `items` is the catalogue as of the start: of each item the content, None where it could not be shown.
    """

    start: int
    users: Mapping[UserId, Past]
    features: Mapping[UserId, Mapping[str, float | str]]
    items: Mapping[ItemId, ItemContent | None] = field(default_factory=dict)

    def cases(self) -> list[Case]:
        """Return the users with a later item that they had not seen, who are those that models are asked about."""
        cases = [Case(user_id, frozenset(past.targets), frozenset(past.seen)) for user_id, past in self.users.items()]
        return [case for case in cases if case.targets]

    def followed_by(self, later: Mapping[UserId, Collection[ItemId]]) -> "Slice":
        """Return the slice with these targets instead, which the lake need not hold."""
        events = {user_id: past.events for user_id, past in self.users.items()}
        everybody = dict.fromkeys((*events, *later))
        users = {user_id: Past(events.get(user_id, []), set(later.get(user_id, ()))) for user_id in everybody}
        return replace(self, users=users)

    @cached_property
    def training(self) -> list[InteractionRecord]:
        """What happened before the start in the order of time, without negative feedback."""
        events = sorted(
            (event.happened_at, event.event_id, user_id, event)
            for user_id, past in self.users.items()
            for event in past.events
            if not event.kind.is_negative
        )
        return [
            InteractionRecord(number, user_id, event.item_id, event.kind, event.value, event.happened_at)
            for number, (_, _, user_id, event) in enumerate(events)
        ]

    @cached_property
    def counts(self) -> Counter[ItemId]:
        """How many events before the start each item has."""
        return Counter(event.item_id for event in self.training)

    def content(self, item_id: ItemId) -> ItemContent:
        """Return what the catalogue says of an item, which may be nothing."""
        return self.items.get(item_id) or ItemContent(item_id)


Later = Callable[[int], Slice]
"""Reads the lake, cut at a time, ms."""


def read_slice(lake: LakeSettings, namespace: Namespace, start: int) -> Slice:
    """Read the slice; raises SnapshotMissing when nothing was landed, UnknownKind."""
    columns = {"interactions": SLICE_COLUMNS, "user_features": USER_COLUMNS, "items": (*ITEM_COLUMNS, *_TIMES)}
    tables = {name: read_table(lake, namespace, name, columns=wanted).arrow for name, wanted in columns.items()}
    return slice_of(tables["interactions"], tables["user_features"], start, tables["items"])


def slice_of(interactions: pa.Table, user_features: pa.Table, start: int, items: pa.Table | None = None) -> Slice:
    """Cut tables with SLICE_COLUMNS and USER_COLUMNS at `start`, ms; without `items` nothing is known of the catalogue.

    Raises UnknownKind.
    """
    users: dict[UserId, Past] = defaultdict(Past)
    for row in _in_milliseconds(interactions, "happened_at").to_pylist():
        if row["user_id"] is None or row["surface"] == PROBE_SURFACE:
            continue
        past, kind = users[UserId(row["user_id"])], kind_of(row["kind"])
        if row["happened_at"] < start:
            past.events.append(
                HistoryEvent(row["happened_at"], EventId(row["event_id"]), ItemId(row["item_id"]), kind, row["value"])
            )
        elif not kind.is_negative:
            past.later.add(ItemId(row["item_id"]))
    return Slice(start, users, _features(user_features, start), {} if items is None else _catalogue(items, start))


def _catalogue(items: pa.Table, start: int) -> dict[ItemId, ItemContent | None]:
    rows = _in_milliseconds(items, *_TIMES)
    known = rows.filter(pc.less(rows["happened_at"], start))
    ordered = known.sort_by([("happened_at", "ascending"), ("event_id", "ascending")])
    return {ItemId(row["item_id"]): _shown(row, start) for row in ordered.to_pylist()}  # the newest record holds


def _shown(row: dict[str, Any], at: int) -> ItemContent | None:
    """Return the item of a record, None when it may not be shown at the time, ms."""
    early = row["available_from"] is not None and at < row["available_from"]
    late = row["available_until"] is not None and at >= row["available_until"]
    if row["removed"] or row["hidden"] or early or late:
        return None
    return ItemContent(
        item_id=ItemId(row["item_id"]),
        title=row["title"] or "",
        categories=tuple(row["categories"] or ()),
        attributes=msgspec.json.decode(row["attributes"] or "{}", type=dict[str, str | float | bool]),
        text=row["text"] or "",
    )


def _features(table: pa.Table, start: int) -> dict[UserId, Mapping[str, float | str]]:
    rows = _in_milliseconds(table, "event_timestamp")
    known = rows.filter(pc.less_equal(rows["event_timestamp"], start)).sort_by("event_timestamp")
    return {
        UserId(row["user_id"]): {name: row[name] for name in USER_COLUMNS[2:] if row[name] is not None}
        for row in known.to_pylist()
    }


def _in_milliseconds(rows: pa.Table, *names: str) -> pa.Table:
    for name in names:
        rows = rows.set_column(rows.schema.get_field_index(name), name, millis_of(rows[name]))
    return rows
