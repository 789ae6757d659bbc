"""The retraining job: train with logs, put the model into the registry and the local store, evaluate it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from models.config import artifacts_url
from models.model_store import ModelCache
from models.progress import Progress, Step
from models.registry import Registry
from models.report import NobodyToAsk, Report
from models.slices import read_slice
from models.tensorboard import TensorBoardLog
from models.training import TrainedModel, train
from services.config import Settings
from services.quality.compare import Ground, compare


@dataclass(frozen=True)
class Retrained:
    """A trained model, its name in BentoML's store, and the folder of its TensorBoard logs.

    `evaluation` says where it stands, None when nothing is later than its training, and then `note` says so.
    """

    trained: TrainedModel
    bentoml_model: str
    tensorboard: str
    evaluation: Report | None
    note: str


@dataclass(frozen=True)
class Cut:
    """Training reads what happened before `until`, ms; `named` says that somebody chose it, else it is now.

    One that nobody named gives way to that of an interrupted training.
    """

    until: int
    named: bool

    def resume_from(self, resume_hours: float) -> int | None:
        """Return from which cut on, ms, an interrupted training is resumed instead, None for never."""
        return None if self.named else self.until - int(resume_hours * 3_600_000)


def retrain(settings: Settings, cut: Cut, now: datetime, progress: Progress) -> Retrained:
    """Train on what happened before the cut and evaluate on what happened later; `now` names the logs.

    To be called in the first process of a training, after BentoML's variables are set. Raises what `train` and
    `compare` raise.
    """
    model, lake = settings.model.under(settings.home), settings.lake.under(settings.home)
    namespace = settings.topics.namespace
    folder = Path(str(model.tensorboard)) / namespace / f"{now.astimezone(UTC):%Y%m%dt%H%M%S}"
    with TensorBoardLog(folder, model.norm_limit) as board:

        def report(part: str, step: Step) -> None:
            board.heard(part, step)
            progress(part, step)

        since = cut.resume_from(model.resume_hours)
        trained = train(model, lake, namespace, cut.until, report, resume_from=since)
        board.finish(trained.metrics)
    registry = Registry(artifacts_url(model), namespace)
    cache = ModelCache(registry, namespace)
    cache.pull(trained.version)
    ground = Ground(
        registry, partial(read_slice, lake, namespace), trained.trained_until, model.gate.tolerance, model.seed
    )
    found, note = _evaluated(ground, trained.version)
    return Retrained(trained, cache.tag(trained.version), str(folder), found, note)


def _evaluated(ground: Ground, version: str) -> tuple[Report | None, str]:
    try:
        return compare(ground, version, False, lambda _name: None).comparison, ""
    except NobodyToAsk:
        # Rounded up: a slice must not begin before the end of training.
        since = f"{datetime.fromtimestamp(-(-ground.since // 1000), UTC):%Y-%m-%dT%H:%M:%SZ}"
        return None, (
            f"the lake holds nothing later than the training of {version} to evaluate it on: land what happens next, "
            f"then run `flywheel evaluate {version} --since {since}`"
        )


def assist(settings: Settings, cut: Cut) -> None:
    """Train along as any other process of a training; raises what `train` raises."""
    model, lake = settings.model.under(settings.home), settings.lake.under(settings.home)
    train(model, lake, settings.topics.namespace, cut.until, lambda _part, _step: None)
