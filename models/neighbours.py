"""Which items go with which: for each item its strongest neighbours, as two arrays that can be memory-mapped."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.top import best

Rows = NDArray[np.int64]
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Votes:
    """Votes for items: `rows` int32[n], repeats allowed, and their `weights` float32[n]."""

    rows: NDArray[np.int32]
    weights: Weights

    def on(self, slots: NDArray[np.int32], count: int) -> Weights:
        """Return the sum of votes per slot, float32[count]; `slots` holds each row's slot, from 1, or 0 for none."""
        found = slots.take(self.rows)
        hits = np.flatnonzero(found)  # most votes are for items outside the slots
        return np.bincount(found[hits], self.weights[hits], minlength=count + 1)[1 : count + 1].astype(np.float32)

    def best(self, k: int) -> tuple[Rows, Weights]:
        """Return up to `k` rows with the largest sums, best first, ties by row; no row with a sum of 0."""
        every = np.bincount(self.rows, self.weights)
        voted = np.zeros(len(every), dtype=np.bool_)  # few of all rows, and flags are faster to scan than sums
        voted[self.rows] = True
        rows = np.flatnonzero(voted)
        sums = every[rows].astype(np.float32)
        order = best(sums, k)
        order = order[sums[order] > 0]
        return rows[order], sums[order]


@dataclass(frozen=True)
class Neighbours:
    """`rows` int32[items, k] and `weights` float32[items, k], strongest first; weight 0 where an item has fewer."""

    rows: NDArray[np.int32]
    weights: Weights

    def votes(self, history: Rows, weights: Weights) -> Votes:
        """Return what the items of `history`, int64[n], vote for, each with its own weight, float32[n]."""
        known = history < len(self.rows)
        history, weights = history[known], weights[known]
        return Votes(
            self.rows.take(history, axis=0).ravel(), (self.weights.take(history, axis=0) * weights[:, None]).ravel()
        )
