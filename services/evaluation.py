"""A model beside the champion and the baselines, on what happened after its training."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime

from models.artifact import CorruptArtifact
from models.gate import SliceOverlaps
from models.loaded import Loaded
from models.offline import Slice
from models.registry import Registry, UnknownModel
from models.standings import Standing, baseline_standings, standing

Later = Callable[[int], Slice]
"""Reads the lake, cut at a time, ms."""


@dataclass
class Evaluation:
    """Where the rankers stand, the model first, and sentences about what could not be compared."""

    standings: list[Standing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def evaluate(registry: Registry, version: str, lake: Later, since: int) -> Evaluation:
    """Measure a model, the champion and the baselines on what happened from `since` on, ms.

    Raises SliceOverlaps when the model was trained on a part of that, UnknownModel, CorruptArtifact, SnapshotMissing.
    """
    found = Evaluation()
    with ExitStack() as stack:
        model = Loaded.of(registry, version, stack)
        if model.scorer.trained_until > since:
            raise SliceOverlaps(f"model {version!r} was trained on a part of the slice: take a later --since")
        part = lake(since)
        if not part.cases():
            found.notes.append(
                f"the lake holds nothing later than the training of {version} to evaluate it on: land what happens "
                f"next, then run `flywheel evaluate {version} --since {_text(since)}`"
            )
            return found
        champion = registry.champion()
        own_role = "champion" if champion and champion.model_version == version else "model"
        found.standings.append(standing(own_role, model.evaluated(part)))
        if champion and own_role == "model":
            _add_champion(found, registry, champion.model_version, part, stack)
    found.standings += baseline_standings(part)
    return found


def _add_champion(found: Evaluation, registry: Registry, version: str, part: Slice, stack: ExitStack) -> None:
    try:
        champion = Loaded.of(registry, version, stack)
    except (UnknownModel, CorruptArtifact, OSError) as error:
        found.notes.append(f"champion {version} is left out: {error}")
        return
    if champion.scorer.trained_until > part.start:
        found.notes.append(f"champion {version} is left out: it was trained on a part of the slice")
        return
    found.standings.append(standing("champion", champion.evaluated(part)))


def _text(time: int) -> str:
    # Rounded up: a slice must not begin before the end of training.
    return f"{datetime.fromtimestamp(-(-time // 1000), UTC):%Y-%m-%dT%H:%M:%SZ}"
