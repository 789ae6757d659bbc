"""The baselines that every evaluation on a slice shows beside the model, fitted on what happened before its start.

Their settings are fixed here; the benchmarks compare with tuned ones.
"""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.baselines import (
    Baseline,
    DecayedPopularity,
    Ease,
    ItemKnn,
    Markov,
    OfOrder,
    Popularity,
    Product,
    RecentPopularity,
)
from models.leave_one_out import SequenceRanker
from models.sequences import Sequences
from models.slices import Slice
from models.time_split import TimeSplit
from streaming.dataset import InteractionRecord
from streaming.ids import UserId

Fit = Callable[[Sequence[InteractionRecord]], Baseline]

DENSE_ITEMS = 5_000
"""The largest catalogue for which item-kNN and EASE, whose matrices are items by items, are fitted."""

_SEED = 1  # of iALS, the one baseline with a random start


class BaselineRanker:
    """A baseline asked on a split; what it has no training event of scores below everything else."""

    def __init__(self, baseline: Baseline, split: TimeSplit, start: int) -> None:
        self._baseline, self._start, self._size = baseline, start, len(split.catalogue)
        rows = {item_id: row for row, item_id in enumerate(split.catalogue)}
        places = [
            (row, place) for place, item_id in enumerate(baseline.items) if (row := rows.get(item_id)) is not None
        ]
        self._rows, self._places = np.array(places, dtype=np.int64).reshape(-1, 2).T

    def scores(self, user_id: UserId) -> NDArray[np.floating[Any]]:
        """Return float64[catalogue]."""
        scores = np.full(self._size, -np.inf)
        scores[self._rows] = self._baseline.scores(user_id, self._start)[self._places]
        return scores


def fitted(part: Slice, split: TimeSplit) -> Iterator[tuple[str, BaselineRanker]]:
    """Yield each baseline by name, one after another, so that only one is in memory."""
    if part.training:
        for name, fit in _candidates(len(part.counts)).items():
            yield name, BaselineRanker(fit(part.training), split, part.start)


def left_out(part: Slice) -> dict[str, str]:
    """Return which baselines are not fitted here, and why."""
    if not part.training:
        return {"all baselines": "nothing happened before the slice that they could be fitted on"}
    found: dict[str, str] = {}
    if len(part.counts) > DENSE_ITEMS:
        why = f"its matrix of items by items is for up to {DENSE_ITEMS:,} items, and these are {len(part.counts):,}"
        found |= {"item_knn": why, "ease": why}
    if not _has_ials():
        found["ials"] = "the package implicit is not installed: uv sync --extra baselines"
    return found


def _candidates(items: int) -> dict[str, Fit]:
    found: dict[str, Fit] = {
        "popularity": Popularity,
        "popularity_30d": partial(RecentPopularity, days=30),
        "popularity_decayed_14d": partial(DecayedPopularity, half_life_days=14),
        "markov": Markov,
        "markov_x_sqrt_popularity_30d": _markov_times_popularity,
    }
    if items <= DENSE_ITEMS:
        found |= {"item_knn": ItemKnn, "ease": Ease}
    if _has_ials():
        found["ials"] = _ials
    return found


def _markov_times_popularity(train: Sequence[InteractionRecord]) -> Baseline:
    return Product(train, Markov(train), RecentPopularity(train, 30))


def _ials(train: Sequence[InteractionRecord]) -> Baseline:
    return OfOrder(train, _fit_ials)


def _fit_ials(training: Sequences) -> SequenceRanker:
    from models.ials import Ials  # noqa: PLC0415 - an extra, which need not be installed

    return Ials(training, factors=64, regularization=10.0, alpha=1.0, seed=_SEED)


def _has_ials() -> bool:
    return importlib.util.find_spec("implicit") is not None
