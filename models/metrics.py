"""Ranking metrics, all in one place, and how sure one can be of a difference between two rankers.

Every metric of one question comes from the ranks of its targets, float64[targets] from 0; the rank of a target that a
ranker did not rank is infinite. Whatever the protocol, a question's ranks are found by `ranks_in` or `ranks_by`.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streaming.ids import ItemId

Ranks = NDArray[np.float64]


def ranks_in(ranked: Sequence[ItemId], targets: Collection[ItemId]) -> Ranks:
    """Return the targets' places in a list, in the targets' order. Raises ValueError without targets."""
    _need_targets(targets)
    places = {item: place for place, item in reversed(list(enumerate(ranked)))}
    return np.array([places.get(target, np.inf) for target in targets], dtype=np.float64)


def ranks_by(scores: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> Ranks:
    """Return the ranks of distinct `targets`, int64[targets] and in their order, by scores float[items].

    A masked item's score is NaN.

    A target's rank is the number of other items that are better, plus half of those that tie with it, plus the targets
    that come before it: targets compete with what is wrong, not with each other. A masked target's rank is infinite.
    Raises ValueError without targets.
    """
    _need_targets(targets)
    others = np.delete(scores, targets)
    others = np.sort(others[~np.isnan(others)])
    own = scores[targets]
    below, up_to = np.searchsorted(others, own, side="left"), np.searchsorted(others, own, side="right")
    ranks = np.where(np.isnan(own), np.inf, len(others) - up_to + (up_to - below) / 2)
    order = np.argsort(-own, kind="stable")  # NaN comes last
    ranks[order] += np.arange(len(targets))
    return ranks


def hits(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Return 1 for each rank among the first `k`, else 0."""
    return (ranks < k).astype(np.float64)


def gains(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Return the discounted gain of each rank: 1/log2(rank + 2) among the first `k`, else 0."""
    found: NDArray[np.float64] = hits(ranks, k) / np.log2(ranks + 2)
    return found


def reciprocals(ranks: Ranks) -> NDArray[np.float64]:
    """Return 1/(rank + 1) of each rank, 0 for an infinite one."""
    found: NDArray[np.float64] = 1.0 / (ranks + 1)
    return found


def ndcg_of(ranks: Ranks, k: int) -> float:
    """Return the normalised discounted cumulative gain of the first `k` of one question, with binary gains.

    The ideal has min(k, targets) hits on top (K. Jarvelin and J. Kekalainen, ACM TOIS 20(4), 2002).
    """
    ideal = np.arange(min(k, len(ranks)), dtype=np.float64)
    return float(gains(ranks, k).sum() / gains(ideal, k).sum())


def hit_of(ranks: Ranks, k: int) -> float:
    """Return 1 when any target of one question is among the first `k`, else 0."""
    return float(hits(ranks, k).max())


def recall_of(ranks: Ranks, k: int) -> float:
    """Return the share of one question's targets among the first `k`."""
    return float(hits(ranks, k).mean())


def reciprocal_rank_of(ranks: Ranks) -> float:
    """Return the reciprocal place of one question's first target."""
    return float(reciprocals(ranks).max())


def ndcg(ranked: Sequence[ItemId], targets: Collection[ItemId], k: int) -> float:
    """Return `ndcg_of` a list. Raises ValueError without targets."""
    return ndcg_of(ranks_in(ranked, targets), k)


def hit_rate(ranked: Sequence[ItemId], targets: Collection[ItemId], k: int) -> float:
    """Return `hit_of` a list. Raises ValueError without targets."""
    return hit_of(ranks_in(ranked, targets), k)


def recall(ranked: Sequence[ItemId], targets: Collection[ItemId], k: int) -> float:
    """Return `recall_of` a list. Raises ValueError without targets."""
    return recall_of(ranks_in(ranked, targets), k)


def coverage(shown: ArrayLike) -> float:
    """Return the share of the catalogue that was shown at all; `shown` counts how often each item was, [items]."""
    counts = np.asarray(shown)
    return float((counts > 0).mean()) if counts.size else 0.0


def popularity_bias(shown: ArrayLike, events: ArrayLike) -> float:
    """Return the mean share of the training events that a shown item has.

    `shown` counts how often each item was shown, `events` its training events, [items] each; 0 where nothing was.
    """
    times, counts = np.asarray(shown, dtype=np.float64), np.asarray(events, dtype=np.float64)
    return float(times @ counts / max(times.sum() * counts.sum(), 1.0))


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


def _need_targets(targets: Collection[Any] | NDArray[np.int64]) -> None:
    if len(targets) == 0:
        raise ValueError("a user without targets cannot be scored: leave them out")
