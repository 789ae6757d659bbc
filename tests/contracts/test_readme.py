"""The README says what the code does: settings, commands and routes, row by row."""

from pathlib import Path
from typing import Any

import pytest
import typer.main

from services.cli import app
from services.collect.application import Collector
from services.collect.intake import Clerk
from services.config import variables
from services.recommend.application import Recommender
from services.settings_serving import ServingSettings
from streaming.config import KafkaSettings
from streaming.marks import Marker
from streaming.namespace import Namespace

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def setting_rows() -> list[str]:
    rows = []
    for name, field in variables():
        default = "unset" if field.default is None else str(field.default)
        rows.append(f"| `{name}` | {default} | {field.description} |")
    return rows


def command_rows() -> list[str]:
    group = typer.main.get_command(app)
    commands = group.commands  # type: ignore[attr-defined]
    return [f"| `flywheel {name}` | {command.help.splitlines()[0]} |" for name, command in commands.items()]


def route_rows() -> list[str]:
    # Routes are data: reading them uses none of the parts that answer.
    parts: list[Any] = [None, None]
    marker = Marker(KafkaSettings(erasure_key="k" * 40), Namespace("shop"))
    clerk = Clerk(
        now=lambda: 0,
        new_id=str,
        max_age_ms=0,
        max_ahead_ms=0,
        marker=marker,
    )
    recommender = Recommender(ServingSettings(), *parts, None)  # type: ignore[arg-type]
    collector = Collector(ServingSettings(), parts[0], clerk, (parts[0], parts[0]), (parts[0], parts[0]))
    return [
        f"| `{route.method} {route.path}` | {route.scope or 'none'} | {route.summary} |"
        for service in (recommender, collector)
        for route in service.routes()
    ]


@pytest.mark.parametrize("row", setting_rows())
def test_every_setting_stands_in_the_readme(row: str) -> None:
    assert row in README.splitlines()


@pytest.mark.parametrize("row", command_rows())
def test_every_command_stands_in_the_readme(row: str) -> None:
    assert row in README.splitlines()


@pytest.mark.parametrize("row", route_rows())
def test_every_route_stands_in_the_readme(row: str) -> None:
    assert row in README.splitlines()


def test_the_readme_names_no_setting_command_or_route_that_does_not_exist() -> None:
    kinds = ("| `FLYWHEEL_", "| `flywheel ", "| `GET ", "| `POST ", "| `DELETE ")
    lines = [line for line in README.splitlines() if line.startswith(kinds)]
    assert set(lines) == {*setting_rows(), *command_rows(), *route_rows()}
