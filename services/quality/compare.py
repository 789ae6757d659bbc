"""A model of the registry beside the champion and the baselines, on what the lake holds since a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from models.gate import SliceOverlaps
from models.offline import ModelRanker
from models.registry import Registry
from models.report import Report, report_on
from models.scorer import Scorer
from models.slice_baselines import fitted, left_out
from models.slices import Slice
from models.time_split import Measured, TimeSplit, ask
from services.quality.sources import SourceReport, report_sources

CHAMPION = "champion"

Progress = Callable[[str], None]
"""Hears of what begins."""


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """The comparison, and the candidate sources where they were asked for."""

    comparison: Report
    sources: SourceReport | None


def compare(registry: Registry, version: str, part: Slice, seed: int, progress: Progress) -> Report:
    """Return the report on a model.

    Raises UnknownModel, SliceOverlaps when the model was trained on a part of the slice, and NobodyToAsk.
    """
    split, missing = TimeSplit.of(part), left_out(part)
    progress(version)
    measured = [_measured(registry, version, part, split)]
    champion = registry.champion()
    if champion is None:
        missing[CHAMPION] = "no model was promoted yet"
    elif champion.model_version == version:
        missing[CHAMPION] = "it is this model"
    else:
        progress(CHAMPION)
        try:
            measured.append(
                _measured(registry, champion.model_version, part, split, f"{CHAMPION} {champion.model_version}")
            )
        except SliceOverlaps as error:
            missing[CHAMPION] = str(error)
    for name, ranker in fitted(part, split):
        progress(name)
        measured.append(ask(name, ranker, split))
    return report_on(part, split, measured, missing, seed)


def sources_of(registry: Registry, version: str, part: Slice, tolerance: float, seed: int) -> SourceReport:
    """Return the report on the candidate sources of a model; raises UnknownModel."""
    with _scorer(registry, version) as scorer:
        return report_sources(scorer, part, TimeSplit.of(part), tolerance, seed)


def _measured(registry: Registry, version: str, part: Slice, split: TimeSplit, name: str | None = None) -> Measured:
    with _scorer(registry, version) as scorer:
        if scorer.trained_until > part.start:
            raise SliceOverlaps(f"model {version!r} was trained on a part of the slice: take a later slice")
        return ask(name or version, ModelRanker(scorer, part, split), split)


@contextmanager
def _scorer(registry: Registry, version: str) -> Iterator[Scorer]:
    with TemporaryDirectory() as folder:
        registry.fetch(version, Path(folder))
        yield Scorer.load(Path(folder))
