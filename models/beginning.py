"""Where a training begins: at the champion's weights or from scratch, and the sentence that says so."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from torch import distributed

from models.artifact import Artifact, CorruptArtifact
from models.config import ModelSettings
from models.registry import NoChampion, Registry, UnknownModel
from models.sharding import device, is_first
from models.start import Parent, read_parent
from models.warm_start import misfit
from streaming.errors import FlywheelError

_log = logging.getLogger(__name__)


class ChampionUnfit(FlywheelError):
    """Training was to start from the champion, which does not fit."""


@dataclass(frozen=True)
class Beginning:
    """The model that a training starts from, None for none, and why, in words."""

    parent: Parent | None
    sentence: str


def choose_beginning(registry: Registry, settings: ModelSettings, examples_from: int) -> Beginning:
    """Return where to begin by `settings.start_from`; the ranker's examples begin at `examples_from`, ms.

    Every process of the group must make the same call. Raises NoChampion and ChampionUnfit when the champion was asked
    for.
    """
    if settings.start_from == "scratch":
        return Beginning(None, "started from scratch, as the settings ask")
    version = _champion(registry)
    if version is None:
        if settings.start_from == "champion":
            raise NoChampion("training is to start from the champion and no model was promoted yet: use scratch")
        return Beginning(None, "started from scratch: no model was promoted yet")
    parent, why_not = _fitting(registry, version, settings, examples_from)
    if parent:
        return Beginning(parent, f"started from the champion {version}")
    if settings.start_from == "champion":
        raise ChampionUnfit(f"training cannot start from the champion {version}: {why_not}; use scratch")
    sentence = f"started from scratch, since the champion {version} does not fit: {why_not}"
    if is_first():
        _log.warning(sentence)
    return Beginning(None, sentence)


def _champion(registry: Registry) -> str | None:
    """Return the champion's version as the first process sees it: it may change between two looks."""
    champion = registry.champion() if is_first() else None
    found = [champion.model_version if champion else None]
    distributed.broadcast_object_list(found, device=device())
    return found[0]


def _fitting(
    registry: Registry, version: str, settings: ModelSettings, examples_from: int
) -> tuple[Parent | None, str | None]:
    try:
        with tempfile.TemporaryDirectory() as folder:
            registry.fetch(version, Path(folder))
            parent = read_parent(Artifact.open(Path(folder)))
    except (CorruptArtifact, UnknownModel) as error:
        return None, str(error)
    why_not = misfit(parent, settings.retrieval, examples_from)
    return (None, why_not) if why_not else (parent, None)
