"""The search for settings."""

import os
import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from services.commands.common import AsJson, console, moment, need_lake, say, show

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from models.studies import Found

Trials = Annotated[int, typer.Option(min=1, help="Trials that the study has in the end, earlier runs' included.")]
Until = Annotated[
    str | None,
    typer.Option(
        help="Read nothing from this time on, ISO 8601 with zone; unset = the study's own, now for a new one."
    ),
]
StudyName = Annotated[str, typer.Option("--study", help="Which study to begin or to go on with.")]


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("tune")(tune)


def tune(trials: Trials = 30, until: Until = None, study: StudyName = "default", as_json: AsJson = False) -> None:
    """Search for better training settings, on validation only; a study that was interrupted goes on."""
    from models.before_torch import set_up_torch
    from services.config import load_settings

    settings = load_settings()
    cut = None if until is None else int(moment(until).timestamp() * 1000)
    need_lake(settings)
    set_up_torch(os.environ)
    from models.studies import Search
    from models.studies import tune as run
    from services.commands.progress import TrainingProgress

    search = Search(study, trials, cut, time.time_ns() // 1_000_000)
    model, lake = settings.model.under(settings.home), settings.lake.under(settings.home)
    with TrainingProgress(console(), model.norm_limit) as shown:
        found = run(
            model, lake, settings.topics.namespace, search, (shown.heard, lambda trial: shown.say(_told(trial)))
        )
    variables = _variables(found)
    if as_json:
        show("Tuned", [msgspec.to_builtins(found) | {"variables": variables}], as_json)
        return
    say([_sentence(found)])
    typer.echo("\n".join(f"{name}={value}" for name, value in variables.items()))


def _told(trial: "FrozenTrial") -> str:
    if trial.value is None:
        return f"trial {trial.number}: {trial.user_attrs.get('diverged', 'given up, behind the median')}"
    return f"trial {trial.number}: NDCG@10 {trial.value:.4f}"


def _sentence(found: "Found") -> str:
    now = "were not tried" if found.present_ndcg10 is None else f"reach {found.present_ndcg10:.4f}"
    return (
        f"{found.trials} trials, {found.pruned} given up; the best, trial {found.best_trial}, reaches NDCG@10 "
        f"{found.ndcg10:.4f} on validation, the present settings {now}"
    )


def _variables(found: "Found") -> dict[str, Any]:
    return {f"FLYWHEEL_MODEL__{place.replace('.', '__').upper()}": value for place, value in found.settings.items()}
