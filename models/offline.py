"""A served model's quality on what the lake holds of a later time: the full catalogue is ranked for every user."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.config import LakeSettings
from features.history import History, HistoryEvent, merge
from features.popularity import PopularityWindow
from features.snapshots import read_table
from models.gate import Evaluated
from models.heldout import Case
from models.metrics import ndcg
from models.scorer import Query, Scorer
from streaming.dataset import InteractionRecord
from streaming.events import PROBE_SURFACE, Kind
from streaming.ids import EventId, ItemId, UserId
from streaming.namespace import Namespace

SLICE_COLUMNS = ("user_id", "item_id", "kind", "value", "happened_at", "event_id", "surface")
USER_COLUMNS = ("user_id", "event_timestamp", "interactions_30d", "interactions_total", "mean_value", "attributes")

_K = 10


@dataclass
class _Past:
    """What a user did before the slice and the items that they came to within it."""

    events: list[HistoryEvent] = field(default_factory=list)
    later: set[ItemId] = field(default_factory=set)


@dataclass(frozen=True)
class Slice:
    """The lake's interactions, cut at `start` (ms): histories before it, targets after it, features as of it."""

    start: int
    users: Mapping[UserId, _Past]
    features: Mapping[UserId, Mapping[str, float | str]]

    def cases(self) -> list[Case]:
        """Return the users with a later item that they had not seen, who are those that models are asked about."""
        seen = {user_id: frozenset(event.item_id for event in past.events) for user_id, past in self.users.items()}
        cases = [
            Case(user_id, frozenset(past.later - seen[user_id]), seen[user_id]) for user_id, past in self.users.items()
        ]
        return [case for case in cases if case.targets]

    def interactions(self) -> list[InteractionRecord]:
        """Return the wanted interactions before the start in the order of time, on which baselines are fitted."""
        events = [(event, user_id) for user_id, past in self.users.items() for event in past.events]
        events.sort(key=lambda pair: (pair[0].happened_at, pair[0].event_id))
        return [
            InteractionRecord(number, user_id, event.item_id, event.kind, event.value, event.happened_at)
            for number, (event, user_id) in enumerate(events)
            if not event.kind.is_negative
        ]

    def followed_by(self, later: Mapping[UserId, Collection[ItemId]]) -> "Slice":
        """Return the slice with these targets instead, which the lake need not hold."""
        events = {user_id: past.events for user_id, past in self.users.items()}
        everybody = dict.fromkeys((*events, *later))
        users = {user_id: _Past(events.get(user_id, []), set(later.get(user_id, ()))) for user_id in everybody}
        return Slice(self.start, users, self.features)


def read_slice(lake: LakeSettings, namespace: Namespace, start: int) -> Slice:
    """Read the slice; raises SnapshotMissing when nothing was landed."""
    interactions = read_table(lake, namespace, "interactions", columns=SLICE_COLUMNS).arrow
    features = read_table(lake, namespace, "user_features", columns=USER_COLUMNS).arrow
    return slice_of(interactions, features, start)


def slice_of(interactions: pa.Table, user_features: pa.Table, start: int) -> Slice:
    """Cut tables with SLICE_COLUMNS and USER_COLUMNS at `start`, ms."""
    users: dict[UserId, _Past] = defaultdict(_Past)
    for row in _in_milliseconds(interactions, "happened_at").to_pylist():
        if row["user_id"] is None or row["surface"] == PROBE_SURFACE:
            continue
        past, kind = users[UserId(row["user_id"])], Kind(row["kind"])
        if row["happened_at"] < start:
            past.events.append(
                HistoryEvent(row["happened_at"], EventId(row["event_id"]), ItemId(row["item_id"]), kind, row["value"])
            )
        elif not kind.is_negative:
            past.later.add(ItemId(row["item_id"]))
    return Slice(start, users, _features(user_features, start))


def evaluate(scorer: Scorer, part: Slice) -> Evaluated:
    """Return NDCG@10 and coverage@10 over the users with a later item that they had not seen.

    Histories end at the start of the slice.
    """
    popularity = _popularity(scorer, part)
    values: dict[UserId, float] = {}
    shown: set[ItemId] = set()
    for case in part.cases():
        events = part.users[case.user_id].events
        history = merge(History(), events, len(events))
        query = Query(history, part.features.get(case.user_id, {}), part.start)
        ranked = _ranked(scorer, query, popularity, case.seen)
        values[case.user_id] = ndcg(ranked, case.targets, _K)
        shown.update(ranked)
    return Evaluated(scorer.version, scorer.trained_until, values, len(shown))


def _ranked(scorer: Scorer, query: Query, popularity: PopularityWindow, seen: Collection[ItemId]) -> list[ItemId]:
    scores = scorer.rank(query, np.arange(scorer.size, dtype=np.int64), popularity)
    scores[[row for item in seen if (row := scorer.row(item)) is not None]] = -np.inf
    return [scorer.item_id(row) for row in np.argsort(-scores, kind="stable")[:_K].tolist()]


def _popularity(scorer: Scorer, part: Slice) -> PopularityWindow:
    pairs = [
        (row, event.happened_at)
        for past in part.users.values()
        for event in past.events
        if not event.kind.is_negative and (row := scorer.row(event.item_id)) is not None
    ]
    window = PopularityWindow(scorer.size)
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    window.observe(table[:, 0], table[:, 1])
    return window


def _features(table: pa.Table, start: int) -> dict[UserId, Mapping[str, float | str]]:
    rows = _in_milliseconds(table, "event_timestamp")
    known = rows.filter(pc.less_equal(rows["event_timestamp"], start)).sort_by("event_timestamp")
    return {
        UserId(row["user_id"]): {name: row[name] for name in USER_COLUMNS[2:] if row[name] is not None}
        for row in known.to_pylist()
    }


def _in_milliseconds(rows: pa.Table, name: str) -> pa.Table:
    times = rows[name].cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
    return rows.set_column(rows.schema.get_field_index(name), name, times)
