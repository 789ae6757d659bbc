"""Commands that start, check and show the system."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from services.commands.common import AsJson, console, show


class Data(StrEnum):
    """The data sets of the demonstration."""

    MOVIELENS = "movielens"
    SYNTHETIC = "synthetic"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("demo")(demo)
    app.command("up")(up)
    app.command("doctor")(doctor)
    app.command("topics")(topics)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the report instead of serving on.")] = False,
    data: Annotated[Data, typer.Option(help="What is replayed.")] = Data.MOVIELENS,
) -> None:
    """Run the whole circle on this machine, from raw events to a measured report."""
    from models.threads import wait_passively

    wait_passively(os.environ)
    from services.config import load_settings
    from services.demo.run import run_demo

    passed = run_demo(load_settings(), os.environ, console(), data=data.value, once=once)
    if not passed:
        sys.exit(1)


def up() -> None:
    """Run the embedded stack, empty, until Ctrl-C."""
    from services.config import load_settings
    from services.stack import up as run

    run(load_settings(), os.environ, console())


def doctor(as_json: AsJson = False) -> None:
    """Check every connection, version and permission, and say what to fix; exit 1 when something is wrong."""
    from services.config import load_settings
    from services.doctor import examine

    checks = examine(load_settings(), os.environ)
    show("Doctor", [msgspec.to_builtins(check) for check in checks], as_json)
    if not all(check.passed for check in checks):
        sys.exit(1)


def topics(as_json: AsJson = False) -> None:
    """Create the topics that do not exist yet."""
    from services.config import load_settings
    from streaming.topics import ensure_topics

    settings = load_settings()
    created = ensure_topics(settings.kafka, settings.topics)
    show("Created", [{"topic": name} for name in created], as_json)
