"""Which item of a history speaks most for an item that was recommended. Numpy only."""

import numpy as np
from numpy.typing import NDArray

from models.cosine import unit
from models.neighbours import Neighbours

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


def strongest_voters(neighbours: Neighbours, history: Rows, weights: NDArray[np.float32], rows: Rows) -> Rows:
    """Return for each of `rows`, int64[n], the row of `history` that votes most for it, -1 where none does: int64[n].

    `history`, int64[h], votes with `weights`, float32[h], as `Neighbours.votes` says; the first of equals is taken.
    """
    known = history < len(neighbours.rows)
    history, weights = history[known], weights[known]
    if len(history) == 0:
        return np.full(len(rows), -1, dtype=np.int64)
    strengths = neighbours.weights.take(history, axis=0) * weights[:, None]
    votes = np.where(neighbours.rows.take(history, axis=0)[:, :, None] == rows, strengths[:, :, None], 0).sum(axis=1)
    return np.where(votes.max(axis=0) > 0, history[votes.argmax(axis=0)], -1)


def nearest(history: Vectors, items: Vectors) -> NDArray[np.intp]:
    """Return for each of `items`, float32 [n, dim], its nearest (cosine) in `history`, float32 [h ≥ 1, dim]."""
    closest: NDArray[np.intp] = (unit(items) @ unit(history).T).argmax(axis=1)
    return closest
