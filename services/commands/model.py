"""Commands of a model's life: train, evaluate, promote, roll back."""

import os
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from services.commands.common import AsJson, BadTime, console, moment, need_lake, say, show, show_found

if TYPE_CHECKING:
    from models.registry import Champion, Registry
    from models.slices import Later
    from services.config import Settings
    from services.training import Retrained

Reason = Annotated[str | None, typer.Option(help="Why; kept with the change.")]
Version = Annotated[str, typer.Argument(help="A version that `flywheel models` lists.")]
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
    """Train a model on the lake, register it and evaluate it on what is later; under torchrun on several processes."""
    from models.before_torch import set_up_torch
    from services.config import load_settings
    from services.environment import bentoml_environ
    from services.home import writing

    settings, asked = load_settings(), int(moment(until).timestamp() * 1000)
    if asked > time.time_ns() // 1_000_000:
        raise BadTime(
            f"--until {until!r} is ahead of our clock: nothing would be later, and nothing could be evaluated"
        )
    model = settings.model.model_copy(update={"start_from": start_from or settings.model.start_from})
    settings = settings.model_copy(update={"model": model})
    need_lake(settings)
    set_up_torch(os.environ)
    with writing(settings.home):
        os.environ.update(bentoml_environ(settings.home))
    from services.commands.progress import TrainingProgress
    from services.training import Cut, assist, retrain

    cut = Cut(asked, named=until is not None)
    if os.environ.get("RANK", "0") != "0":
        assist(settings, cut)
        return
    with TrainingProgress(console(), settings.model.norm_limit) as shown:
        done = retrain(settings, cut, datetime.now(UTC), shown.heard)
    _show_retrained(done, as_json)


def models(as_json: AsJson = False) -> None:
    """List the registry's models and which one is the champion."""
    from services.config import load_settings

    registry = _registry(load_settings())
    champion = registry.champion()
    rows = [
        {
            "model_version": version,
            "champion": champion is not None and version == champion.model_version,
            "training_set": _kept_or_gone(registry.training_set_gone_since(version)),
        }
        for version in registry.versions()
    ]
    show("Models", rows, as_json)


def evaluate(
    version: Version,
    since: Annotated[str, typer.Option(help="Start of the slice, later than the training; ISO 8601 with zone.")],
    report: Annotated[bool, typer.Option(help="Also the candidate sources, the ranker's part, and parts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model, the champion and the baselines on what happened since a time later than their training."""
    from services.config import load_settings
    from services.quality.compare import Ground, compare
    from services.quality.tables import tables

    settings = load_settings()
    start, model = int(moment(since).timestamp() * 1000), settings.model
    ground = Ground(_registry(settings), _lake(settings), start, model.gate.tolerance, model.seed)
    with console().status("evaluating") as status:
        found = compare(ground, version, report, lambda name: status.update(f"asking {name}"))
    show_found(found, tables, as_json)


def promote(
    version: Annotated[str | None, typer.Argument(help="A version that `flywheel models` lists.")] = None,
    newest: Annotated[
        bool,
        typer.Option(
            "--newest", help="The newest model younger than the champion that the gate can judge; none is no failure."
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Promote without a pass of the gate; needs --reason.")] = False,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Make a model the champion when the gate passes, or with --force for a reason that is kept."""
    if (version is None) != newest:
        raise typer.BadParameter("name a version or say --newest, not both")
    from services.config import load_settings
    from services.promotion import consider, consider_newest, need_reason
    from services.promotion import promote as run

    need_reason(force, reason)
    settings = load_settings()
    registry = _registry(settings)
    if version is None:
        candidacy = consider_newest(registry, _lake(settings), settings.model)
    else:
        candidacy = consider(registry, version, _lake(settings), settings.model)
    if candidacy is None:
        say(["No model is younger than the champion."])
        show("Promoted", [], as_json)
        return
    change = run(registry, candidacy, force, reason, time.time_ns() // 1_000_000)
    say([f"Gate: {candidacy.verdict.sentence()}"])
    _put_in_force(settings, registry, change)
    show("Promoted", [msgspec.to_builtins(change)], as_json)


def rollback(reason: Annotated[str, typer.Option(help="Why; kept with the change.")], as_json: AsJson = False) -> None:
    """Make the champion's predecessor the champion again."""
    from services.config import load_settings

    settings = load_settings()
    registry = _registry(settings)
    change = registry.rollback(time.time_ns() // 1_000_000, reason)
    _put_in_force(settings, registry, change)
    show("Rolled back", [msgspec.to_builtins(change)], as_json)


def _put_in_force(settings: "Settings", registry: "Registry", change: "Champion") -> None:
    """Keep the training set of a champion that stands already, and tell the recommenders of it.

    What fails of that is said and no failure: whoever was told of one would make the change twice.
    """
    from pyiceberg.exceptions import CommitFailedException

    from features.snapshots import SnapshotMissing
    from services.announcement import announce
    from services.promotion import pin_champion
    from streaming.errors import BrokerUnavailable
    from streaming.producer import NotDurable

    lake = settings.lake.under(settings.home)
    try:
        gone = pin_champion(registry, change.model_version, lake, settings.topics.namespace)
    except (SnapshotMissing, CommitFailedException) as error:
        say([f"Its training set could not be kept from maintenance: {error}"])
    else:
        say(f"Its training set is gone already in table {table}." for table in gone)
    try:
        announce(settings.kafka, settings.topics, change)
    except (BrokerUnavailable, NotDurable) as error:
        say([f"The change stands and could not be announced: recommenders see it when they look next. {error}"])


def _registry(settings: "Settings") -> "Registry":
    from models.config import artifacts_url
    from models.registry import Registry

    return Registry(artifacts_url(settings.model.under(settings.home)), settings.topics.namespace)


def _lake(settings: "Settings") -> "Later":
    from models.slices import read_slice

    return partial(read_slice, settings.lake.under(settings.home), settings.topics.namespace)


def _show_retrained(done: "Retrained", as_json: bool) -> None:
    from services.quality.tables import comparison_tables

    trained = done.trained
    say([done.note] if done.note else [])
    if as_json:
        where = {"bentoml_model": done.bentoml_model, "tensorboard": done.tensorboard}
        evaluation = {"evaluation": msgspec.to_builtins(done.evaluation)}
        show("Trained", [msgspec.to_builtins(trained) | where | evaluation], as_json)
        return
    say([trained.beginning, f"BentoML model {done.bentoml_model}, TensorBoard logs in {done.tensorboard}"])
    show(f"Trained {trained.version}", [{"metric": k, "value": v} for k, v in trained.metrics.items()], as_json)
    if done.evaluation is not None:
        show_found(done.evaluation, comparison_tables, as_json)


def _kept_or_gone(since: int | None) -> str:
    return "kept" if since is None else f"gone, noticed {datetime.fromtimestamp(since / 1000, UTC):%Y-%m-%d}"
