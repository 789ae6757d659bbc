"""How sure one can be of means over users."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Mean:
    """A mean and the 95 % bootstrap interval around it."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: ArrayLike, seed: int, draws: int = 2_000) -> Mean:
    """Return the mean of one value a user and its percentile interval.

    Users are resampled with replacement (B. Efron and R. Tibshirani, 1993, ch. 13).
    Raises ValueError when there is no value or more than one a user.
    """
    return bootstrap_means([values], seed, draws)[0]


def bootstrap_means(columns: Sequence[ArrayLike], seed: int, draws: int = 2_000) -> list[Mean]:
    """Return `bootstrap_mean` of each column, all of a user's values resampled together."""
    values = np.array(columns, dtype=np.float64)
    if values.ndim != 2 or values.size == 0:
        raise ValueError("a bootstrap needs one value a user, for at least one user")
    rng, users = np.random.default_rng(seed), values.shape[1]
    # How often each user was drawn says as much as who was drawn, and a product is faster than copying all columns.
    means = (
        np.array([values @ np.bincount(rng.integers(0, users, users), minlength=users) for _ in range(draws)]) / users
    )
    lows, highs = np.percentile(means, [2.5, 97.5], axis=0)
    return [Mean(float(m), float(a), float(b)) for m, a, b in zip(values.mean(axis=1), lows, highs, strict=True)]


def bootstrap_ratio(totals: ArrayLike, counts: ArrayLike, seed: int, draws: int = 2_000) -> Mean:
    """Return the mean over rows, of which a user has `counts` with a sum of `totals`, and its percentile interval.

    Users are resampled with replacement, each with all their rows. Raises ValueError when the two are not of one length
    or a user has no row.
    """
    total, count = np.asarray(totals, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    if total.ndim != 1 or total.shape != count.shape or total.size == 0 or count.min() <= 0:
        raise ValueError("a bootstrap over users' rows needs a sum and a count above 0 of each, for at least one user")
    rng, users = np.random.default_rng(seed), len(total)
    picked = (rng.integers(0, users, users) for _ in range(draws))
    low, high = np.percentile([total[some].sum() / count[some].sum() for some in picked], [2.5, 97.5])
    return Mean(float(total.sum() / count.sum()), float(low), float(high))
