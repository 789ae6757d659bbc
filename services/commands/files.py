"""Commands that bring files in and out."""

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from services.commands.common import INTERRUPTED, AsJson, console, need_lake, say, show, stop_on_signal
from services.imports.format import Format

if TYPE_CHECKING:
    from services.imports.cursor import Cursor
    from services.imports.run import Report, Source

_Form = Annotated[Format | None, typer.Option("--format", help="What the file is; by its suffix if unset.")]
_MappingFile = Annotated[Path | None, typer.Option("--mapping", help="YAML file of which column is which field.")]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Publish nothing; say which rows are bad.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("import")(import_)
    app.command("export")(export)


def import_(
    file: Annotated[Path, typer.Argument(help="The file.")],
    form: _Form = None,
    mapping: _MappingFile = None,
    dry_run: _DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Publish a file's items, users and interactions to Kafka, from where it was interrupted; exit 1 with bad rows."""
    from services.imports.mapping import read_mapping
    from services.imports.run import Source

    source = Source(file, form or _by_suffix(file), None if mapping is None else read_mapping(mapping))
    report = _check(source) if dry_run else _import(source)
    _show(report, as_json)
    if report.cursor.bad:
        sys.exit(1)


def export(
    table: Annotated[str, typer.Argument(help="interactions, items, users or identities.")],
    file: Annotated[Path, typer.Argument(help="Where to: a .jsonl, .csv or .parquet file.")],
    as_json: AsJson = False,
) -> None:
    """Write what has landed of a table to a file that `flywheel import` takes."""
    from features.landed_events import TABLES
    from services.config import ConfigurationError, load_settings
    from services.exports import ExportForm, export_table

    suffix = file.suffix.removeprefix(".")
    if table not in TABLES:
        raise ConfigurationError(f"{table!r} is no table to export: use {', '.join(TABLES)}")
    if suffix not in [*ExportForm]:
        endings = ", ".join(f".{form}" for form in ExportForm)
        raise ConfigurationError(f"{file.name!r} ends in none of {endings}: rename it")
    settings = load_settings()
    need_lake(settings)
    lake = settings.lake.under(settings.home), settings.topics.namespace
    with console().status("exporting") as status:
        count = export_table(lake, table, file, ExportForm(suffix), lambda done: status.update(f"{done} rows"))
    show("Exported", [{"table": table, "file": str(file), "rows": count}], as_json)


def _by_suffix(file: Path) -> Format:
    from services.config import ConfigurationError

    suffix = file.suffix.removeprefix(".")
    if suffix not in ("jsonl", "csv", "parquet"):
        raise ConfigurationError(f"the suffix of {file.name!r} says nothing: give --format, one of {', '.join(Format)}")
    return Format(suffix)


def _check(source: "Source") -> "Report":
    from services.imports.run import check_file

    with console().status("reading") as status:
        return check_file(source, _now(), lambda cursor: status.update(f"{cursor.rows} rows"))


def _import(source: "Source") -> "Report":
    from services.config import load_settings
    from services.imports.run import import_file
    from streaming.producer import EventProducer

    settings = load_settings()
    stop = threading.Event()
    stop_on_signal(stop)
    producer = EventProducer(settings.kafka, settings.topics)
    folder = settings.home / "imports" / settings.namespace
    try:
        with console().status("importing") as status:

            def progress(cursor: "Cursor") -> bool:
                status.update(f"{cursor.rows} rows, {cursor.bad} bad")
                return not stop.is_set()

            report = import_file(source, folder, producer.publish, _now(), progress)
    finally:
        producer.close()
    if not report.cursor.finished:
        say([f"interrupted after {report.cursor.rows} rows; the same command continues from here"])
        sys.exit(INTERRUPTED)
    return report


def _show(report: "Report", as_json: bool) -> None:
    cursor = report.cursor
    counts = {"rows": cursor.rows, "events": cursor.published, "bad": cursor.bad, "skipped": cursor.skipped}
    bad_rows = [msgspec.to_builtins(bad) for bad in report.bad_rows]
    if as_json:
        show("", [{**counts, "bad_rows": bad_rows, "bad_by_field": dict(report.reasons)}], as_json)
        return
    show("Rows", [counts], as_json)
    if bad_rows:
        show(f"The first {len(bad_rows)} of {cursor.bad} bad rows", bad_rows, as_json)


def _now() -> int:
    import time

    return time.time_ns() // 1_000_000
