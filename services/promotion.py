"""Changing the champion: the gate is asked, and the registry decides."""

from contextlib import ExitStack
from dataclasses import dataclass

import msgspec

from features.config import LakeSettings
from features.snapshots import pin_snapshot
from models.artifact import CorruptArtifact
from models.config import ModelSettings
from models.gate import Evaluated, Unreadable, Verdict, judge
from models.leave_one_out import ScoresUnusable
from models.loaded import Loaded
from models.registry import Champion, Registry, UnknownModel
from models.served import RankerFailed
from models.slices import Later, Slice
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_TAG = "champion"


class ReasonMissing(FlywheelError):
    """A promotion is to be forced, and nobody says why."""

    exit_code = 2


@dataclass(frozen=True)
class Candidacy:
    """A model, what the gate found of it, and the `number` that its promotion gets in the champion's history."""

    version: str
    number: int
    verdict: Verdict


def candidates(registry: Registry) -> list[str]:
    """Return the models that are younger than the champion and never were one, the newest first.

    Versions begin with the end of their training data, so their order is that of their age.
    """
    promoted = {change.model_version for change in registry.history()}
    champion = registry.champion()
    oldest = champion.model_version if champion is not None else ""
    younger = [version for version in registry.versions() if version not in promoted and version > oldest]
    return sorted(younger, reverse=True)


def consider_newest(registry: Registry, lake: Later, settings: ModelSettings) -> Candidacy | None:
    """Ask the gate about the newest of the `candidates` of which it can judge, None where there are none.

    After the end of the very newest one's data too few users may have come back: then an older one may do.
    """
    first: Candidacy | None = None
    for version in candidates(registry):
        candidacy = consider(registry, version, lake, settings)
        if candidacy.verdict.outcome != "insufficient data":
            return candidacy
        first = first or candidacy
    return first


def consider(registry: Registry, version: str, lake: Later, settings: ModelSettings) -> Candidacy:
    """Ask the gate about a model.

    The number is taken first: a champion that changes after that was not compared with, and `promote` is refused. An
    opponent that cannot be read is no pass, and in nobody's way when the promotion is forced. Raises UnknownModel and
    CorruptArtifact for the model itself, SnapshotMissing without a lake.
    """
    number = registry.next_number()
    opponents = registry.opponents(settings.gate.reference_every)
    with ExitStack() as stack:
        candidate = Loaded.of(registry, version, stack)
        others = {role: _load(registry, opponent, stack) for role, opponent in opponents.items()}
        readable = [candidate, *(other for other in others.values() if isinstance(other, Loaded))]
        start = max(model.scorer.trained_until for model in readable)
        part = lake(start)
        against = {
            role: _evaluated(other, part) if isinstance(other, Loaded) else other for role, other in others.items()
        }
        verdict = judge(candidate.evaluated(part), against, start, settings.gate, settings.seed)
    return Candidacy(version, number, verdict)


def _evaluated(opponent: Loaded, part: Slice) -> Evaluated | Unreadable:
    try:
        return opponent.evaluated(part)
    except (ScoresUnusable, RankerFailed) as error:
        return Unreadable(opponent.scorer.version, str(error))


def promote(registry: Registry, candidacy: Candidacy, forced: bool, reason: str | None, now: int) -> Champion:
    """Make a model the champion, `now` in ms; the reason is kept.

    Raises GateRefused without a pass of the gate unless `forced`, ReasonMissing when forced without a reason,
    UnknownModel, and ChampionChanged when the champion was changed since the gate was asked.
    """
    need_reason(forced, reason)
    candidacy.verdict.require(forced)
    return registry.promote(
        Champion(
            number=candidacy.number,
            model_version=candidacy.version,
            change="promote",
            changed_at=now,
            gate=msgspec.to_builtins(candidacy.verdict),
            reason=reason,
        )
    )


def pin_champion(registry: Registry, version: str, lake: LakeSettings, namespace: Namespace) -> list[str]:
    """Have maintenance keep the snapshots that a new champion was trained on; returns the tables whose are gone.

    Those of the champion before are let go. An erasure takes the tag away where it must. Raises SnapshotMissing.
    """
    trained_on = registry.training_snapshots(version).items()
    return [table for table, snapshot in trained_on if not pin_snapshot(lake, namespace, table, snapshot, _TAG)]


def need_reason(forced: bool, reason: str | None) -> None:
    """Raise ReasonMissing when a promotion is to be forced without a reason."""
    if forced and not (reason and reason.strip()):
        raise ReasonMissing("--force needs --reason TEXT: why the gate is passed over, which is kept with the change")


def _load(registry: Registry, version: str, stack: ExitStack) -> Loaded | Unreadable:
    try:
        return Loaded.of(registry, version, stack)
    except (UnknownModel, CorruptArtifact, OSError) as error:
        return Unreadable(version, str(error))
