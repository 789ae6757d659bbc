"""What the commands share: output for people and for programs, and stopping on a signal."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from streaming.errors import FlywheelError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from services.config import Settings

INTERRUPTED = 130
"""The exit code of a command that was told to stop before its end."""

T = TypeVar("T")


class BadTime(FlywheelError):
    """A time on the command line is no ISO 8601 time with a zone."""

    exit_code = 2


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def console() -> Console:
    """Return the console for progress, standard error, so that standard output stays for results."""
    return Console(stderr=True)


def say(sentences: Iterable[str]) -> None:
    """Print sentences beside the results."""
    for sentence in sentences:
        console().print(sentence, highlight=False, markup=False, soft_wrap=True)


def moment(text: str | None) -> datetime:
    """Return an ISO 8601 time in UTC, now when there is none; raises BadTime."""
    if text is None:
        return datetime.now(UTC)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadTime(f"{text!r} is no time: write it as 2026-01-31T12:00:00Z") from error
    if parsed.tzinfo is None:
        raise BadTime(f"{text!r} has no zone: write it as 2026-01-31T12:00:00Z")
    return parsed.astimezone(UTC)


def need_lake(settings: "Settings") -> None:
    """Raise SnapshotMissing without a lake, before anything slow is imported to work on it."""
    from features.snapshots import current_snapshot_id

    current_snapshot_id(settings.lake.under(settings.home), settings.topics.namespace, "interactions")


def lake_session(settings: "Settings") -> "SparkSession":
    """Return a Spark session on the lake of these settings; to import and start it takes seconds."""
    from features.spark import build_session
    from streaming.embedded.java import user_cache

    return build_session(settings.lake.under(settings.home), settings.topics.namespace, user_cache(os.environ))


def open_lake() -> "tuple[Settings, SparkSession]":
    """Return the settings and a Spark session on their lake."""
    from services.config import load_settings

    settings = load_settings()
    return settings, lake_session(settings)


def show(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print rows as a table, or as a JSON array."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode() + "\n")
        return
    table = Table(title=title)
    for name in rows[0] if rows else ():
        table.add_column(name.replace("_", " "))
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row.values()))  # not markup: some of it is what clients sent
    Console().print(table)


def show_found(found: T, drawn: Callable[[T], RenderableType], as_json: bool) -> None:
    """Print a result as its tables, or as JSON."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
    else:
        Console().print(drawn(found))


def stop_on_signal(stop: threading.Event) -> None:
    """Set `stop` on SIGINT and SIGTERM, so that work in hand is finished and committed."""

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
