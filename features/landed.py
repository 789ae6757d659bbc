"""Impressions as they were sent, read back from the lake without a JVM."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from pyiceberg.expressions import EqualTo

from features.config import LakeSettings
from features.snapshots import read_table
from streaming.events import Impression
from streaming.ids import RequestId
from streaming.namespace import Namespace

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES = ("happened_at", "received_at", "source_time")


def find_impression(lake: LakeSettings, namespace: Namespace, request_id: RequestId) -> Impression | None:
    """Return the landed impression of a request, None when there is none.

    Reads the ids of all impressions, since they come in no order. Raises SnapshotMissing without a lake.
    """
    rows = read_table(
        lake, namespace, "impressions", where=EqualTo(term="event_id", value=request_id)
    ).arrow.to_pylist()
    return _impression(rows[0]) if rows else None


def _impression(row: Mapping[str, Any]) -> Impression:
    """Return the event of a row of `impressions`; what the row does not have is the event's default."""
    fields = dict(present(row))
    fields |= {name: ms(fields[name]) for name in _TIMES if name in fields}
    fields["slate"] = [present(item) for item in row["slate"]]
    if "user_features" in fields:
        features = msgspec.json.decode(fields["user_features"])
        fields["user_state"] = {"history": fields.get("user_history", []), "features": features}
    if "catalogue_offsets" in fields:
        fields["catalogue_offsets"] = msgspec.json.decode(fields["catalogue_offsets"])
    if "replay" in fields:
        offsets = msgspec.json.decode(fields["replay"]["interaction_offsets"])
        fields["replay"] = fields["replay"] | {"interaction_offsets": offsets}
    return msgspec.convert(fields, Impression)


def ms(time: datetime) -> int:
    """Return an aware time in ms UTC."""
    return (time - _EPOCH) // timedelta(milliseconds=1)


def present(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not null of a row."""
    return {name: value for name, value in row.items() if value is not None}
