"""A model of the registry beside the champion and the baselines, on what the lake holds since a time."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec

from models.artifact import CorruptArtifact
from models.gate import SliceOverlaps
from models.loaded import Loaded
from models.offline import ModelRanker
from models.registry import Registry, UnknownModel
from models.report import NobodyToAsk, Report, report_on
from models.slice_baselines import fitted, left_out
from models.slices import Later, Slice
from models.time_split import Measured, TimeSplit, ask
from services.quality.sources import SourceReport, report_sources

CHAMPION = "champion"

Progress = Callable[[str], None]
"""Hears of what begins."""


@dataclass(frozen=True)
class Ground:
    """On what models are compared: those of a registry, on what the lake holds since a time, ms.

    `tolerance` is how much NDCG@10 the ranker may lose, relatively; the seed is that of the bootstraps.
    """

    registry: Registry
    lake: Later
    since: int
    tolerance: float
    seed: int


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison, and the candidate sources where they were asked for."""

    comparison: Report
    sources: SourceReport | None


def compare(ground: Ground, version: str, with_sources: bool, progress: Progress) -> Compared:
    """Return the report on a model.

    Raises UnknownModel, CorruptArtifact, SliceOverlaps when the model was trained on a part of the slice,
    SnapshotMissing, NobodyToAsk.
    """
    with ExitStack() as stack:
        model = _load(ground, version, stack)
        part = ground.lake(ground.since)
        split, missing = TimeSplit.of(part), left_out(part)
        if not split.asked:
            raise NobodyToAsk("no user came to an item new to them since then: take an earlier start of the slice")
        progress(version)
        measured = [ask(version, ModelRanker(model.scorer, part, split), split)]
        progress(CHAMPION)
        measured += _champion(ground, version, part, split, missing)
        for name, ranker in fitted(part, split):
            progress(name)
            measured.append(ask(name, ranker, split))
        sources = None
        if with_sources:
            progress("the candidate sources")
            sources = report_sources(model.scorer, part, split, ground.tolerance, ground.seed)
    return Compared(comparison=report_on(part, split, measured, missing, ground.seed), sources=sources)


def _champion(ground: Ground, version: str, part: Slice, split: TimeSplit, missing: dict[str, str]) -> list[Measured]:
    """Return the champion's measures; where there are none, `missing` says why."""
    champion = ground.registry.champion()
    if champion is None or champion.model_version == version:
        missing[CHAMPION] = "no model was promoted yet" if champion is None else "it is this model"
        return []
    with ExitStack() as stack:
        try:
            loaded = _load(ground, champion.model_version, stack)
        except (SliceOverlaps, UnknownModel, CorruptArtifact, OSError) as error:
            missing[CHAMPION] = str(error)
            return []
        name = f"{CHAMPION} {champion.model_version}"
        return [ask(name, ModelRanker(loaded.scorer, part, split), split)]


def _load(ground: Ground, version: str, stack: ExitStack) -> Loaded:
    loaded = Loaded.of(ground.registry, version, stack)
    if loaded.scorer.trained_until > ground.since:
        raise SliceOverlaps(f"model {version!r} was trained on a part of the slice: take a later --since")
    return loaded
