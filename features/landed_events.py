"""Events as they were sent, read back from the lake without a JVM."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from features.config import LakeSettings
from features.snapshots import read_table
from streaming.events import Event, Interaction, ItemRemoved, ItemUpserted, UserUpserted
from streaming.namespace import Namespace

TABLES = ("interactions", "items", "users")
"""The tables that hold what applications sent."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH = 5_000
_OF_KAFKA = frozenset({"topic", "partition", "offset", "appended_at"})


def landed_events(lake: LakeSettings, namespace: Namespace, table: str) -> Iterator[Event]:
    """Yield the events of one of `TABLES`, oldest first (ties: by id); erased users are left out.

    The whole table is in memory while it is read. Raises SnapshotMissing without a lake.
    """
    arrow = read_table(lake, namespace, table).arrow
    for batch in arrow.sort_by([("happened_at", "ascending"), ("event_id", "ascending")]).to_batches(_BATCH):
        for row in batch.to_pylist():
            if not row.get("erased"):
                yield _event(table, row)


def _event(table: str, row: Mapping[str, Any]) -> Event:
    fields = {name: _sent(name, value) for name, value in row.items() if value is not None and name not in _OF_KAFKA}
    kinds: dict[str, type[Any]] = {
        "interactions": Interaction,
        "users": UserUpserted,
        "items": ItemRemoved if row.get("removed") else ItemUpserted,
    }
    event: Event = msgspec.convert(fields, kinds[table])
    return event


def _sent(name: str, value: Any) -> Any:
    """Return a value as the event had it: times in ms, attributes as an object."""
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(milliseconds=1)
    return msgspec.json.decode(value) if name == "attributes" else value
