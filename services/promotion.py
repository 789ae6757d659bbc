"""Changing the champion: the gate is asked, and the registry decides."""

from contextlib import ExitStack
from dataclasses import dataclass

import msgspec

from models.artifact import CorruptArtifact
from models.config import ModelSettings
from models.gate import Unreadable, Verdict, judge
from models.loaded import Loaded
from models.registry import Champion, Registry, UnknownModel
from models.slices import Later
from streaming.errors import FlywheelError


class ReasonMissing(FlywheelError):
    """A promotion is to be forced, and nobody says why."""

    exit_code = 2


@dataclass(frozen=True)
class Candidacy:
    """A model, what the gate found of it, and the `number` that its promotion gets in the champion's history."""

    version: str
    number: int
    verdict: Verdict


def newest_candidate(registry: Registry) -> str | None:
    """Return the newest model that is younger than the champion and never was one; None where there is none.

    Versions begin with the end of their training data, so their order is that of their age.
    """
    promoted = {change.model_version for change in registry.history()}
    champion = registry.champion()
    oldest = champion.model_version if champion is not None else ""
    return max(
        (version for version in registry.versions() if version not in promoted and version > oldest), default=None
    )


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
            role: other.evaluated(part) if isinstance(other, Loaded) else other for role, other in others.items()
        }
        verdict = judge(candidate.evaluated(part), against, start, settings.gate, settings.seed)
    return Candidacy(version, number, verdict)


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


def need_reason(forced: bool, reason: str | None) -> None:
    """Raise ReasonMissing when a promotion is to be forced without a reason."""
    if forced and not (reason and reason.strip()):
        raise ReasonMissing("--force needs --reason TEXT: why the gate is passed over, which is kept with the change")


def _load(registry: Registry, version: str, stack: ExitStack) -> Loaded | Unreadable:
    try:
        return Loaded.of(registry, version, stack)
    except (UnknownModel, CorruptArtifact, OSError) as error:
        return Unreadable(version, str(error))
