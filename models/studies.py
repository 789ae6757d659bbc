"""Studies of `flywheel tune`: kept in a SQLite file, gone on with by name, each bound to the data of its first run."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from features.config import LakeSettings
from features.snapshots import read_table
from models.config import ModelSettings
from models.progress import Progress
from models.slices import USER_COLUMNS
from models.text_reading import text_reader
from models.training import TRAINING_COLUMNS
from models.tuning import Space, present, run_trial, space
from models.validation import Validation, validation
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_DONE = (TrialState.COMPLETE, TrialState.PRUNED)
_UNTIL, _SNAPSHOTS, _SETTINGS = "until", "snapshots", "settings"
_STARTUP_TRIALS = 5  # before a median means anything

Told = Callable[[FrozenTrial], None]
"""Hears of every trial that is finished."""


class OtherStudy(FlywheelError):
    """A study was begun with another cut or other settings than the run that wants to go on with it."""


class StudiesBusy(FlywheelError):
    """Another process works on the studies."""


class NothingFound(FlywheelError):
    """No trial of a study came to its end."""


@dataclass(frozen=True)
class Search:
    """What is asked for: the study's name, how many trials it is to have in all, and the cut, ms.

    Nothing from the cut on is read. A new study without one takes `now`, ms; an old one keeps its own.
    """

    study: str
    trials: int
    until: int | None
    now: int


@dataclass(frozen=True)
class Found:
    """What a study has come to: NDCG@10 on validation of the best trial, and of the settings that were set.

    The latter is None when those were not tried: they lie outside the search, or were set later. `settings` are the
    best trial's by place, as `retrieval.dim`.
    """

    study: str
    until: int
    trials: int
    pruned: int
    best_trial: int
    ndcg10: float
    present_ndcg10: float | None
    settings: dict[str, Any]


def tune(
    settings: ModelSettings, lake: LakeSettings, namespace: Namespace, search: Search, ears: tuple[Progress, Told]
) -> Found:
    """Run the trials that the study lacks, on the lake's snapshots of its first run, and return what it has come to.

    Stopped at any moment, even killed, it keeps the finished trials, and the next call goes on. Raises StudiesBusy,
    OtherStudy, NothingFound, SnapshotMissing without a lake or when the snapshots have expired, NotEnoughData,
    TextExtraMissing.
    """
    read_text = text_reader(settings.text, namespace)
    file = Path(str(settings.studies))
    file.parent.mkdir(parents=True, exist_ok=True)
    with _held(file):
        study = _open(file, f"{namespace}/{search.study}")
        where = space(settings)
        until = _cut(study, settings, where, search)
        at = study.user_attrs.get(_SNAPSHOTS, {})
        tables = {
            name: read_table(lake, namespace, name, columns=columns, snapshot_id=at.get(name))
            for name, columns in {**TRAINING_COLUMNS, "user_features": USER_COLUMNS}.items()
        }
        on = validation({name: table.arrow for name, table in tables.items()}, until, settings.seed)
        on = replace(on, data=read_text(on.data))
        study.set_user_attr(_SNAPSHOTS, {name: table.snapshot_id for name, table in tables.items()})
        study.set_user_attr(_SETTINGS, _fixed(settings, where))
        study.set_user_attr(_UNTIL, until)
        run_trials(study, where, settings, on, search.trials, ears)
    return _found(study, search.study, until, where, settings)


def run_trials(
    study: Study,
    where: Space,
    settings: ModelSettings,
    on: Validation,
    trials: int,
    ears: tuple[Progress, Told],
) -> None:
    """Run trials until the study has so many that are finished; the present settings are the first one."""
    progress, told = ears
    for dead in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(dead.number, state=TrialState.FAIL)  # its process was killed
    done, now = study.get_trials(states=_DONE), present(settings, where)
    known = [*done, *study.get_trials(states=(TrialState.WAITING,))]
    if now and all(now not in (trial.params, trial.system_attrs.get("fixed_params")) for trial in known):
        study.enqueue_trial(now)
    # A sampler seeded alike would draw the same settings again after each interruption.
    study.sampler = optuna.samplers.TPESampler(seed=settings.seed + len(study.get_trials()))
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP_TRIALS)
    for _ in range(len(done), trials):
        asked = study.ask(dict(where))
        ndcg10, state = None, TrialState.FAIL  # unless it ends otherwise: an error goes on to the caller
        try:
            ndcg10, state = run_trial(asked, settings, on, progress), TrialState.COMPLETE
        except optuna.TrialPruned:
            state = TrialState.PRUNED
        finally:
            finished = study.tell(asked, ndcg10, state)
        told(finished)


def _open(file: Path, name: str) -> Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
    return optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)


def _cut(study: Study, settings: ModelSettings, where: Space, search: Search) -> int:
    """Return the study's cut, ms; raises OtherStudy when it was begun with another one or with other settings."""
    kept = study.user_attrs
    if _UNTIL not in kept:
        return search.now if search.until is None else search.until
    if search.until not in (None, kept[_UNTIL]):
        raise OtherStudy(f"study {search.study!r} has another cut: leave --until out, or give another --study")
    before, own = kept[_SETTINGS], _fixed(settings, where)
    for name in sorted(own.keys() | before.keys()):
        if own.get(name) != before.get(name):
            raise OtherStudy(
                f"study {search.study!r} was begun with {name} = {before.get(name)}, now it is {own.get(name)}: "
                "set it back, or give another --study"
            )
    return int(kept[_UNTIL])


def _fixed(settings: ModelSettings, where: Space) -> dict[str, Any]:
    """Return by place the settings that training depends on and that are not searched."""
    sections = {"retrieval": settings.retrieval, "ranking": settings.ranking, "vocabulary": settings.vocabulary}
    dumped = {key: part.model_dump(mode="json") for key, part in sections.items()}
    dumped["text"] = settings.text.model_dump(mode="json", exclude={"cache"})
    values = {f"{key}.{name}": value for key, part in dumped.items() for name, value in part.items()}
    values |= settings.model_dump(include={"seed", "threads", "neighbours", "history_length"})
    return {place: value for place, value in values.items() if place not in where}


def _found(study: Study, name: str, until: int, where: Space, settings: ModelSettings) -> Found:
    complete = study.get_trials(states=(TrialState.COMPLETE,))
    if not complete:
        raise NothingFound(f"no trial of study {name!r} came to its end: give more --trials")
    best, now = study.best_trial, present(settings, where)
    return Found(
        study=name,
        until=until,
        trials=len(study.get_trials(states=_DONE)),
        pruned=len(study.get_trials(states=(TrialState.PRUNED,))),
        best_trial=best.number,
        ndcg10=study.best_value,
        present_ndcg10=next((trial.value for trial in complete if trial.params == now), None),
        settings=best.params,
    )


@contextmanager
def _held(file: Path) -> Iterator[None]:
    """Hold the studies for one process; what another one left running can then only be what died."""
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StudiesBusy(f"another `flywheel tune` works on {file}: wait for it, or set FLYWHEEL_HOME") from error
        yield
