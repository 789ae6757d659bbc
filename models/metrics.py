"""Ranking metrics over ids, and how sure one can be of a difference between two rankers."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from streaming.ids import ItemId


def ndcg(ranked: Sequence[ItemId], targets: Collection[ItemId], k: int) -> float:
    """Return the normalised discounted cumulative gain of the first `k`, with binary gains.

    The ideal has min(k, targets) hits on top (K. Jarvelin and J. Kekalainen, ACM TOIS 20(4), 2002).
    Raises ValueError without targets.
    """
    _need_targets(targets)
    gain = sum(_discount(position) for position, item in enumerate(ranked[:k]) if item in targets)
    return gain / sum(_discount(position) for position in range(min(k, len(targets))))


def hit_rate(ranked: Sequence[ItemId], targets: Collection[ItemId], k: int) -> float:
    """Return 1 when any of the first `k` is a target, else 0. Raises ValueError without targets."""
    _need_targets(targets)
    return float(any(item in targets for item in ranked[:k]))


def recall(ranked: Sequence[ItemId], targets: Collection[ItemId], k: int) -> float:
    """Return the share of the targets among the first `k`. Raises ValueError without targets."""
    _need_targets(targets)
    return sum(item in targets for item in ranked[:k]) / len(targets)


@dataclass(frozen=True)
class Interval:
    """A mean difference and the 95 % bootstrap interval around it."""

    difference: float
    low: float
    high: float


def paired_bootstrap(ours: ArrayLike, theirs: ArrayLike, seed: int, draws: int = 10_000) -> Interval:
    """Return the mean of `ours - theirs` (one value a user each, in the same order) and its percentile interval.

    Users are resampled with replacement, both of a user's values together (B. Efron and R. Tibshirani, 1993, ch. 13).
    Raises ValueError when the two are empty or not paired.
    """
    difference = np.asarray(ours, dtype=np.float64) - np.asarray(theirs, dtype=np.float64)
    if difference.ndim != 1 or len(difference) == 0:
        raise ValueError("a paired bootstrap needs one value a user of each ranker, for at least one user")
    rng = np.random.default_rng(seed)
    means = [difference[rng.integers(0, len(difference), len(difference))].mean() for _ in range(draws)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(difference.mean()), float(low), float(high))


def _discount(position: int) -> float:
    return float(1.0 / np.log2(position + 2))


def _need_targets(targets: Collection[ItemId]) -> None:
    if not targets:
        raise ValueError("a user without targets cannot be scored: leave them out")
