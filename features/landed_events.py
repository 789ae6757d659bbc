"""Events as they were sent, read back from the lake without a JVM."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from features.config import LakeSettings
from features.landed import ms, present
from features.snapshots import read_table
from streaming.events import Event, IdentityLinked, Interaction, ItemRemoved, ItemUpserted, UserUpserted
from streaming.namespace import Namespace

TABLES = ("interactions", "items", "users", "identities")
"""The tables that hold what applications sent."""

_BATCH = 5_000


def landed_events(lake: LakeSettings, namespace: Namespace, table: str) -> Iterator[Event]:
    """Yield the events of one of `TABLES`, oldest first (ties: by id); erased users are left out.

    The whole table is in memory while it is read. Raises SnapshotMissing without a lake.
    """
    arrow = read_table(lake, namespace, table).arrow
    for batch in arrow.sort_by([("happened_at", "ascending"), ("event_id", "ascending")]).to_batches(_BATCH):
        for row in batch.to_pylist():
            if not row.get("erased"):
                yield landed_event(table, row)


def landed_event(table: str, row: Mapping[str, Any]) -> Event:
    """Return the event of a row of one of `TABLES`; what the row does not have is the event's default."""
    fields = {name: _sent(name, value) for name, value in present(row).items()}
    kinds: dict[str, type[Any]] = {
        "interactions": Interaction,
        "users": UserUpserted,
        "identities": IdentityLinked,
        "items": ItemRemoved if row.get("removed") else ItemUpserted,
    }
    event: Event = msgspec.convert(fields, kinds[table])
    return event


def _sent(name: str, value: Any) -> Any:
    """Return a value as the event had it: times in ms, attributes as an object."""
    if isinstance(value, datetime):
        return ms(value)
    return msgspec.json.decode(value) if name == "attributes" else value
