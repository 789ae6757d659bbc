"""The demonstration's training: on the lake's snapshots, through the gate, to the champion."""

import importlib
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from models.config import ModelSettings, artifacts_url
from models.gate import Evaluated, judge
from models.progress import Step
from models.registry import Registry
from models.scorer import Scorer
from models.slices import read_slice
from services.announcement import announce
from services.config import Settings
from services.demo.quality import Offline, measure_offline
from services.demo.stages import Stage
from services.demo.world import Replayed
from services.promotion import Candidacy, pin_champion, promote

if TYPE_CHECKING:
    from models.training import TrainedModel

_REASON = "a demonstration: the lake holds no later events of 500 users that the gate could compare models on"
_PARTS = 3  # of training that take long enough to report how far they are


class Taught(msgspec.Struct, frozen=True, kw_only=True):
    """The model that was trained and promoted, what the trainer measured, and what the gate said."""

    model_version: str
    seed: int
    metrics: dict[str, float]
    seconds: dict[str, float]
    offline: Offline
    gate: str
    reason: str | None


def load_trainer() -> None:
    """Import torch and what trains with it, which takes seconds."""
    importlib.import_module("models.training")


def teach(settings: Settings, world: Replayed, cut: int, stage: Stage) -> Taught:
    """Train on what happened before the cut (ms), evaluate, register, ask the gate, promote and announce."""
    # From scratch, so that a run that was interrupted after its promotion trains the same model again.
    model = settings.model.under(settings.home).model_copy(update={"start_from": "scratch"})
    namespace = settings.topics.namespace
    stage.expect(_PARTS * 100)
    done: dict[str, int] = {}

    def progress(part: str, step: Step) -> None:
        stage.progress(int(100 * step.share) - done.get(part, 0))
        done[part] = int(100 * step.share)

    from models.training import train  # noqa: PLC0415 - torch takes seconds to import, which only this thread waits for

    trained = train(model, settings.lake.under(settings.home), namespace, cut, progress)
    registry = Registry(artifacts_url(model), namespace)
    offline = _measured(settings, registry, trained.version, world, cut)
    stage.say(
        f"held-out NDCG@10 of {offline.users} users: model {offline.ndcg10:.3f}, popularity {offline.popularity:.3f}, "
        f"item-kNN {offline.item_knn:.3f}"
    )
    candidacy = _candidacy(registry, trained, model)
    champion = promote(registry, candidacy, True, _REASON, time.time_ns() // 1_000_000)
    pin_champion(registry, champion.model_version, settings.lake.under(settings.home), namespace)
    announce(settings.kafka, settings.topics, champion)
    stage.say(f"model {trained.version}, gate: {candidacy.verdict.sentence()}; promoted for a reason: {_REASON}")
    return Taught(
        model_version=trained.version,
        seed=model.seed,
        metrics=trained.metrics,
        seconds=trained.seconds,
        offline=offline,
        gate=candidacy.verdict.outcome,
        reason=champion.reason,
    )


def _measured(settings: Settings, registry: Registry, version: str, world: Replayed, cut: int) -> Offline:
    known = read_slice(settings.lake.under(settings.home), settings.topics.namespace, cut)
    with TemporaryDirectory() as folder:
        registry.fetch(version, Path(folder))
        return measure_offline(Scorer.load(Path(folder)), known, world)


def _candidacy(registry: Registry, trained: "TrainedModel", model: ModelSettings) -> Candidacy:
    """Ask the gate; nothing in the lake is later than the cut, so no user can be compared."""
    start, number = trained.trained_until, registry.next_number()
    opponents = {
        role: Evaluated(version, start, {}, 0)
        for role, version in registry.opponents(model.gate.reference_every).items()
    }
    verdict = judge(Evaluated(trained.version, start, {}, 0), opponents, start, model.gate, model.seed)
    return Candidacy(trained.version, number, verdict)
