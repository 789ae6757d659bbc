"""What makes events of the rows of each format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.api.problems import FieldError
from services.imports.format import Format
from services.imports.gorse import gorse_event
from services.imports.mapped import event_by
from services.imports.mapping import Mapping
from services.imports.metarank import metarank_event
from services.imports.movielens import MOVIELENS, movielens_event
from services.imports.native import native_event
from services.imports.rows import FileBroken, FileType
from services.imports.stamp import Stamp
from streaming.events import Event

_FILE_TYPES: dict[Format, FileType] = {Format.JSONL: "jsonl", Format.CSV: "csv", Format.PARQUET: "parquet"}

Reader = Callable[[dict[str, Any], int, Stamp], Event | FieldError | None]
"""Returns the event of a row, what is wrong with it, or None for a row that is left out."""


def reader_of(file: Path, form: Format, mapping: Mapping | None) -> tuple[FileType, Mapping | None, Reader]:
    """Return how the file's rows are read, with which mapping, and what makes events of them; raises FileBroken."""
    kinds = {} if mapping is None else mapping.kinds
    match form:
        case Format.GORSE:
            return "jsonl", None, lambda row, number, stamp: gorse_event(row, number, stamp, kinds)
        case Format.METARANK:
            return "jsonl", None, lambda row, number, stamp: metarank_event(row, number, stamp, kinds)
        case Format.MOVIELENS:
            known = MOVIELENS.get(file.name)
            if known is None:
                raise FileBroken(f"{file.name} is no file of MovieLens: those are {', '.join(MOVIELENS)}")
            return "csv", known, lambda row, number, stamp: movielens_event(known, row, number, stamp)
    file_type = _FILE_TYPES[form]
    if mapping is not None:
        return file_type, mapping, lambda row, number, stamp: event_by(mapping, row, number, stamp)
    return file_type, None, native_event
