"""Kafka records to lake rows, in Arrow: what Spark's workers run. The wire format is `streaming.codec`'s alone."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import BinaryType, DataType, StringType, StructField, StructType

from features.lake import COORDINATES, IDENTITIES, IMPRESSIONS, INTERACTIONS, ITEMS, LANDED, USERS, Table
from streaming.codec import FromTheFuture, Undecodable, decode
from streaming.events import (
    Event,
    IdentityLinked,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    ReplayInputs,
    UserErased,
    UserUpserted,
)
from streaming.topics import Topics

EVENT, DEAD, PARKED, TOMBSTONE, ERASED = "event", "dead", "parked", "tombstone", "erased"
"""What became of a record."""

_BYTES = BinaryType()

DECODED = StructType(
    [
        *COORDINATES.fields,
        StructField("outcome", StringType()),
        StructField("reason", StringType()),  # of a dead or parked record, as are its key and its original bytes
        StructField("key", _BYTES),
        StructField("value", _BYTES),
        *(StructField(table.name, table.columns) for table in LANDED),  # the row of the one table that takes it
    ]
)
"""The decoder's output: one row per record."""

_CONVERSION_ERRORS = (pa.ArrowException, OverflowError, UnicodeError, ValueError, TypeError)


class _Record(NamedTuple):
    key: bytes | None
    value: bytes | None
    topic: str
    partition: int
    offset: int
    appended_at: int


class _Outcome(NamedTuple):
    outcome: str
    reason: str | None = None
    table: str | None = None
    row: dict[str, Any] | None = None


def decoder(topics: Topics) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function for `mapInArrow`: columns of `_Record` in (times in us), rows of DECODED out."""

    def decode_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            records = [_Record(*row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)]
            yield _to_arrow(records, [_outcome(record, topics) for record in records])

    return decode_batches


def refusal(topics: Topics, topic: str, value: bytes) -> str | None:
    """Return why landing would put a record of `topic` aside, None when it would become a row."""
    outcomes = [_outcome(_Record(None, value, topic, 0, 0, 0), topics)]
    for table in LANDED:
        _rows(table, outcomes)
    return outcomes[0].reason


def _outcome(record: _Record, topics: Topics) -> _Outcome:
    if record.value is None:
        return _Outcome(TOMBSTONE)
    try:
        event = decode(record.value)
    except FromTheFuture as error:
        return _Outcome(PARKED, str(error))
    except Undecodable as error:
        return _Outcome(DEAD, str(error))
    if topics.of(event) != record.topic:
        return _Outcome(DEAD, f"a {type(event).__name__} belongs in topic {topics.of(event)!r}")
    if isinstance(event, UserErased):
        return _Outcome(ERASED)  # the request itself holds the id: the ledger has what of it lasts
    table, row = _row(event)
    return _Outcome(EVENT, None, table.name, row)


def _row(event: Event) -> tuple[Table, dict[str, Any]]:
    row: dict[str, Any] = msgspec.structs.asdict(event)
    for name in ("happened_at", "received_at", "source_time", "available_from", "available_until"):
        if row.get(name) is not None:
            row[name] *= 1000  # the lake's times are microseconds
    match event:
        case Interaction():
            return INTERACTIONS, row
        case Impression():
            return IMPRESSIONS, row | _impression(event)
        case ItemUpserted() | ItemRemoved():
            return ITEMS, row | {"removed": isinstance(event, ItemRemoved)} | _attributes(row)
        case UserUpserted():
            return USERS, row | {"erased": False} | _attributes(row)
        case IdentityLinked():
            return IDENTITIES, row
        case _:
            raise TypeError(f"{type(event).__name__} does not land")


def _impression(event: Impression) -> dict[str, Any]:
    state = event.user_state
    return {
        "slate": [msgspec.structs.asdict(item) for item in event.slate],
        "user_history": state and state.history,
        "user_features": state and msgspec.json.encode(state.features).decode(),
        "catalogue_offsets": msgspec.json.encode(event.catalogue_offsets).decode(),
        "replay": event.replay and _replay(event.replay),
    }


def _replay(inputs: ReplayInputs) -> dict[str, Any]:
    offsets = msgspec.json.encode(inputs.interaction_offsets).decode()
    return msgspec.structs.asdict(inputs) | {"interaction_offsets": offsets}


def _attributes(row: dict[str, Any]) -> dict[str, str | None]:
    attributes = row.get("attributes")
    return {"attributes": None if attributes is None else msgspec.json.encode(attributes, order="sorted").decode()}


def _to_arrow(records: list[_Record], outcomes: list[_Outcome]) -> pa.RecordBatch:
    rows = {table.name: _rows(table, outcomes) for table in LANDED}  # first: it may turn outcomes into dead ones
    kept = [outcome.outcome in (DEAD, PARKED) for outcome in outcomes]
    columns: dict[str, list[Any] | pa.Array] = {
        "topic": [record.topic for record in records],
        "partition": [record.partition for record in records],
        "offset": [record.offset for record in records],
        "appended_at": [record.appended_at for record in records],
        "outcome": [outcome.outcome for outcome in outcomes],
        "reason": [outcome.reason for outcome in outcomes],
        "key": [record.key if keep else None for record, keep in zip(records, kept, strict=True)],
        "value": [record.value if keep else None for record, keep in zip(records, kept, strict=True)],
        **rows,
    }
    return pa.RecordBatch.from_arrays(
        [_array(columns[field.name], _arrow(field.dataType)) for field in DECODED.fields], schema=_decoded_schema()
    )


def _rows(table: Table, outcomes: list[_Outcome]) -> pa.Array:
    """Return the table's column of structs; an event that no column can hold becomes dead, in place."""
    kind = _arrow(table.columns)
    rows = [outcome.row if outcome.table == table.name else None for outcome in outcomes]
    try:
        return pa.array(rows, kind)
    except _CONVERSION_ERRORS:
        for index, row in enumerate(rows):
            try:
                pa.array([row], kind)
            except _CONVERSION_ERRORS as error:
                outcomes[index] = _Outcome(DEAD, f"a value does not fit the table {table.name!r}: {error}")
                rows[index] = None
        return pa.array(rows, kind)


def _array(values: list[Any] | pa.Array, kind: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, kind)


def _arrow(kind: DataType) -> pa.DataType:
    return to_arrow_type(kind, timestamp_utc=True)


def _decoded_schema() -> pa.Schema:
    return pa.schema([pa.field(field.name, _arrow(field.dataType)) for field in DECODED.fields])
