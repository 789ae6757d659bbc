"""The rows of a file, one at a time and from any of them on, whatever the file's format."""

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from services.imports.mapping import Mapping
from streaming.errors import FlywheelError

FileType = Literal["jsonl", "csv", "parquet"]
Row = dict[str, Any] | str
"""A row's values by column, or what is wrong with it."""

_LONGEST_LINE = 1_048_576
_BATCH = 5_000


class FileBroken(FlywheelError):
    """The file cannot be read as what it is said to be."""


def rows_of(file: Path, file_type: FileType, mapping: Mapping | None, start: int) -> Iterator[Row]:
    """Yield the rows from number `start` on, the first being 0; raises FileBroken."""
    try:
        match file_type:
            case "jsonl":
                yield from _json_lines(file, start)
            case "parquet":
                yield from _parquet(file, start)
            case "csv":
                yield from _delimited(file, mapping or Mapping(entity="interactions"), start)
    except (OSError, pa.ArrowException) as error:
        raise FileBroken(f"{file} cannot be read as {file_type}: {' '.join(str(error).split())}") from error


def _json_lines(file: Path, start: int) -> Iterator[Row]:
    with file.open("rb") as stream:
        for number, line in enumerate(_lines(stream)):
            if number >= start:
                yield _json_row(line)


def _json_row(line: bytes | None) -> Row:
    if line is None:
        return f"the line has more than {_LONGEST_LINE} bytes"
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return f"the line is no JSON object: {error}"


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Yield the lines that are not blank, None for one that is too long; no more than one is held."""
    while line := stream.readline(_LONGEST_LINE):
        if line.endswith(b"\n") or len(line) < _LONGEST_LINE:
            if line.strip():
                yield line
            continue
        while (rest := stream.readline(_LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield None


def _parquet(file: Path, start: int) -> Iterator[Row]:
    number = 0
    for batch in pq.ParquetFile(file).iter_batches(batch_size=_BATCH):
        rows = batch.slice(max(0, start - number)).to_pylist() if number + batch.num_rows > start else []
        number += batch.num_rows
        yield from rows


def _delimited(file: Path, mapping: Mapping, start: int) -> Iterator[Row]:
    with file.open(encoding=mapping.encoding, errors="surrogateescape", newline="") as stream:
        cells = _cells(stream, mapping.separator)
        columns: list[str] | str = mapping.columns or next(cells, [])
        if isinstance(columns, str):
            raise FileBroken(f"the header of {file} cannot be read: {columns}")
        for number, row in enumerate(cells):
            if number < start:
                continue
            if isinstance(row, str):
                yield row
            elif len(row) != len(columns):
                yield f"the row has {len(row)} columns and the header {len(columns)}"
            else:
                yield dict(zip(columns, row, strict=True))


def _cells(lines: Iterable[str], separator: str) -> Iterator[list[str] | str]:
    if len(separator) > 1:  # as of MovieLens' older files, which quote nothing
        yield from (line.rstrip("\r\n").split(separator) for line in lines if line.strip())
        return
    if separator == "\t":
        reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, delimiter=separator, strict=True)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield str(error)
            continue
        if row:
            yield row
