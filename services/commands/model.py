"""Commands of a model's life: train, evaluate, promote, roll back."""

import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer
from rich.progress import Progress

from services.commands.common import AsJson, console, moment, show

if TYPE_CHECKING:
    from models.gate import Evaluated
    from models.registry import Registry
    from services.config import Settings

Reason = Annotated[str | None, typer.Option(help="Why it is done all the same; kept with the change.")]
Version = Annotated[str, typer.Argument(help="A version that `flywheel models` lists.")]
Since = Annotated[str, typer.Option(help="Start of the slice, ISO 8601 with zone.")]
Until = Annotated[str | None, typer.Option(help="Train on what happened before, ISO 8601 with zone; now if unset.")]

From = Annotated[
    Literal["auto", "champion", "scratch"] | None,
    typer.Option("--from", help="Weights to start from; as set, by default the champion's where they fit."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("train")(train)
    app.command("models")(models)
    app.command("evaluate")(evaluate)
    app.command("promote")(promote)
    app.command("rollback")(rollback)


def train(until: Until = None, start_from: From = None, as_json: AsJson = False) -> None:
    """Train a model on the lake and add it to the registry; under torchrun on several processes."""
    from models.threads import wait_passively

    wait_passively(os.environ)
    from models.training import train as run
    from services.config import load_settings

    settings = load_settings()
    model = settings.model.model_copy(update={"start_from": start_from or settings.model.start_from})
    with Progress(console=console(), transient=True) as bar:
        tasks = {}

        def progress(part: str, done: float) -> None:
            if part not in tasks:
                tasks[part] = bar.add_task(part, total=1.0)
            bar.update(tasks[part], completed=done)

        trained = run(
            model.under(settings.home),
            settings.lake.under(settings.home),
            settings.topics.namespace,
            int(moment(until).timestamp() * 1000),
            progress,
        )
    show("Trained", [msgspec.to_builtins(trained)], as_json)


def models(as_json: AsJson = False) -> None:
    """List the registry's models and which one is the champion."""
    from services.config import load_settings

    registry = _registry(load_settings())
    champion = registry.champion()
    rows = [
        {"model_version": version, "champion": champion is not None and version == champion.model_version}
        for version in registry.versions()
    ]
    show("Models", rows, as_json)


def evaluate(
    version: Version, since: Annotated[str, typer.Option(help="Start of the slice.")], as_json: AsJson = False
) -> None:
    """Measure a model's NDCG@10 on what happened since a time that is later than its training."""
    from services.config import load_settings

    settings = load_settings()
    start = int(moment(since).timestamp() * 1000)
    (measured,) = _evaluated(settings, [version], start)
    values = list(measured.ndcg10.values())
    mean = sum(values) / len(values) if values else None
    row = {"model_version": version, "users": len(values), "ndcg10": mean, "coverage10": measured.coverage10}
    show("Evaluated", [row], as_json)


def promote(version: Version, reason: Reason = None, as_json: AsJson = False) -> None:
    """Make a model the champion when the gate passes, or for a reason that is kept."""
    from models.gate import judge
    from services.config import load_settings
    from services.promotion import announce
    from services.promotion import promote as run

    settings = load_settings()
    registry = _registry(settings)
    opponents = registry.opponents(settings.model.gate.reference_every)
    contestants = [version, *opponents.values()]
    start = max(_trained_until(settings, contestants))
    ours, *theirs = _evaluated(settings, contestants, start)
    verdict = judge(ours, dict(zip(opponents, theirs, strict=True)), start, settings.model.gate, settings.model.seed)
    change = run(registry, version, verdict, reason, time.time_ns() // 1_000_000)
    console().print(f"Gate: {verdict.sentence()}", soft_wrap=True)
    announce(settings.kafka, settings.topics, change)
    show("Promoted", [msgspec.to_builtins(change)], as_json)


def rollback(reason: Annotated[str, typer.Option(help="Why; kept with the change.")], as_json: AsJson = False) -> None:
    """Make the champion's predecessor the champion again."""
    from services.config import load_settings
    from services.promotion import announce

    settings = load_settings()
    change = _registry(settings).rollback(time.time_ns() // 1_000_000, reason)
    announce(settings.kafka, settings.topics, change)
    show("Rolled back", [msgspec.to_builtins(change)], as_json)


def _registry(settings: "Settings") -> "Registry":
    from models.config import artifacts_url
    from models.registry import Registry

    return Registry(artifacts_url(settings.model.under(settings.home)), settings.topics.namespace)


def _evaluated(settings: "Settings", versions: list[str], start: int) -> "list[Evaluated]":
    from models.offline import evaluate as run
    from models.offline import read_slice
    from models.scorer import Scorer

    part = read_slice(settings.lake.under(settings.home), settings.topics.namespace, start)
    measured = []
    for version in versions:
        with TemporaryDirectory() as folder:
            _registry(settings).fetch(version, Path(folder))
            measured.append(run(Scorer.load(Path(folder)), part))
    return measured


def _trained_until(settings: "Settings", versions: list[str]) -> list[int]:
    from models.scorer import Scorer

    moments = []
    for version in versions:
        with TemporaryDirectory() as folder:
            _registry(settings).fetch(version, Path(folder))
            moments.append(Scorer.load(Path(folder)).trained_until)
    return moments
