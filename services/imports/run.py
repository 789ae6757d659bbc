"""An import: rows become events, which are published to Kafka batch by batch; it goes on where it was interrupted."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from services.api.problems import FieldError
from services.imports.cursor import Cursor, digest_of, digest_of_mapping, load_cursor, save_cursor
from services.imports.format import Format
from services.imports.formats import reader_of
from services.imports.mapping import Mapping
from services.imports.rows import rows_of
from services.imports.stamp import Stamp
from streaming.events import Event

_BATCH = 2_000
_EXAMPLES = 20


@dataclass(frozen=True)
class Source:
    """The file, what it is, and how its columns are read, for formats that do not say so themselves."""

    file: Path
    form: Format
    mapping: Mapping | None = None


class BadRow(msgspec.Struct, frozen=True):
    """A row that is no event: its number, the first being 1, the field at fault and what is wrong."""

    row: int
    field: str
    detail: str


@dataclass
class Report:
    """What became of the rows, over all the runs of an import; the bad ones are of this run, the first few of them."""

    cursor: Cursor
    bad_rows: list[BadRow] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


Publish = Callable[[Sequence[Event]], object]


def check_file(source: Source, now: int, progress: Callable[[Cursor], None]) -> Report:
    """Read a file and return what an import would do, publishing nothing; `now` is ms UTC. Raises FileBroken."""
    digest = digest_of(source.file, source.form)
    report = Report(Cursor(began_at=now))
    for _ in _batches(source, Stamp(digest, now), report):
        progress(report.cursor)
    return report


def import_file(source: Source, folder: Path, publish: Publish, now: int, progress: Callable[[Cursor], bool]) -> Report:
    """Publish a file's events from where the import was interrupted, if it was; `folder` keeps how far it came.

    `publish` returns once all are durable. `progress` is told after each batch and returns whether to go on. When the
    process dies between publishing a batch and keeping that, the batch comes again with the same event ids. With
    another mapping than before it starts again at the first row, each row with the event id that it had.
    Raises FileBroken, and what `publish` raises.
    """
    digest, mapping = digest_of(source.file, source.form), digest_of_mapping(source.mapping)
    cursor = load_cursor(folder, digest) or Cursor(began_at=now, mapping=mapping)
    if cursor.mapping != mapping:
        cursor = Cursor(began_at=cursor.began_at, mapping=mapping)
    report = Report(cursor)
    if cursor.finished:
        return report
    save_cursor(folder, digest, cursor)
    for events in _batches(source, Stamp(digest, cursor.began_at), report):
        publish(events)
        save_cursor(folder, digest, report.cursor)
        if not progress(report.cursor):
            return report
    report.cursor = msgspec.structs.replace(report.cursor, finished=True)
    save_cursor(folder, digest, report.cursor)
    return report


def _batches(source: Source, stamp: Stamp, report: Report) -> Iterator[list[Event]]:
    """Yield the events of the rows that are not done, batch by batch; the report then counts the batch too."""
    file_type, mapping, read = reader_of(source.file, source.form, source.mapping)
    start = report.cursor.rows
    rows = enumerate(rows_of(source.file, file_type, mapping, start), start=start)
    while batch := list(itertools.islice(rows, _BATCH)):
        events: list[Event] = []
        counts: Counter[str] = Counter()
        for number, row in batch:
            event = FieldError("row", row) if isinstance(row, str) else read(row, number, stamp)
            if event is None:
                counts["skipped"] += 1
            elif isinstance(event, FieldError):
                counts["bad"] += 1
                _note(report, number, event)
            else:
                events.append(event)
        before = report.cursor
        report.cursor = msgspec.structs.replace(
            before,
            rows=before.rows + len(batch),
            published=before.published + len(events),
            bad=before.bad + counts["bad"],
            skipped=before.skipped + counts["skipped"],
        )
        yield events


def _note(report: Report, number: int, error: FieldError) -> None:
    if len(report.bad_rows) < _EXAMPLES:
        report.bad_rows.append(BadRow(number + 1, error.field, error.detail))
    if error.field in report.reasons or len(report.reasons) < 100:
        report.reasons[error.field] += 1
