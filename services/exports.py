"""Exporting what has landed in the lake to a file that `flywheel import` takes."""

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from features.config import LakeSettings
from features.landed_events import landed_events
from streaming.codec import encode
from streaming.errors import FlywheelError
from streaming.events import Event
from streaming.namespace import Namespace

_BATCH = 5_000
_Write = Callable[[list[Event]], object]
_TIME = pa.timestamp("ms", "UTC")
_ENVELOPE = [
    ("type", pa.string()),
    ("event_id", pa.string()),
    ("happened_at", _TIME),
    ("received_at", _TIME),
    ("source_time", _TIME),
    ("producer", pa.string()),
    ("schema_version", pa.int32()),
]
_SCHEMAS = {
    "interactions": pa.schema(
        [
            *_ENVELOPE,
            *((name, pa.string()) for name in ("item_id", "kind", "user_id", "session_id", "surface", "request_id")),
            ("value", pa.float64()),
            ("position", pa.int32()),
        ]
    ),
    "items": pa.schema(
        [
            *_ENVELOPE,
            ("item_id", pa.string()),
            ("title", pa.string()),
            ("categories", pa.list_(pa.string())),
            ("attributes", pa.string()),  # JSON object
            ("text", pa.string()),
            ("available_from", _TIME),
            ("available_until", _TIME),
            ("hidden", pa.bool_()),
        ]
    ),
    "users": pa.schema([*_ENVELOPE, ("user_id", pa.string()), ("attributes", pa.string())]),
    "identities": pa.schema([*_ENVELOPE, ("session_id", pa.string()), ("user_id", pa.string())]),
}


class ExportForm(StrEnum):
    """What is written: an event a line as on the wire, or a row each."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"


class NotExported(FlywheelError):
    """The file cannot be written."""


def export_table(
    lake: tuple[LakeSettings, Namespace], table: str, file: Path, form: ExportForm, progress: Callable[[int], None]
) -> int:
    """Write the events of a table, oldest first, and return their number; the file is there whole or not at all.

    `progress` is told how many are written. Raises SnapshotMissing and NotExported.
    """
    draft = file.with_name(f"{file.name}.draft")
    count = 0
    try:
        with _WRITERS[form](draft, table) as write:
            for batch in _batches(landed_events(*lake, table)):
                write(batch)
                count += len(batch)
                progress(count)
        draft.replace(file)
    except OSError as error:
        raise NotExported(f"{file} cannot be written: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    return count


@contextmanager
def _json_lines(file: Path, _table: str) -> Iterator[_Write]:
    with file.open("wb") as stream:
        yield lambda events: stream.writelines(encode(event) + b"\n" for event in events)


@contextmanager
def _csv(file: Path, table: str) -> Iterator[_Write]:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, _SCHEMAS[table].names)
        writer.writeheader()
        yield lambda events: writer.writerows({name: _cell(value) for name, value in _row(e).items()} for e in events)


@contextmanager
def _parquet(file: Path, table: str) -> Iterator[_Write]:
    schema = _SCHEMAS[table]
    with pq.ParquetWriter(file, schema) as writer:
        yield lambda events: writer.write_table(pa.Table.from_pylist([_row(e) for e in events], schema=schema))


_WRITERS = {ExportForm.JSONL: _json_lines, ExportForm.CSV: _csv, ExportForm.PARQUET: _parquet}


def _cell(value: Any) -> Any:
    return msgspec.json.encode(value).decode() if isinstance(value, list | bool) else value


def _batches(events: Iterator[Event]) -> Iterator[list[Event]]:
    batch: list[Event] = []
    for event in events:
        batch.append(event)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _row(event: Event) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(event)
    if "attributes" in row:
        row["attributes"] = msgspec.json.encode(row["attributes"]).decode()
    return row
