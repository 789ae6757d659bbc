"""Counting which items go together, cut to each item's strongest neighbours."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.log import Log
from models.neighbours import FittedNeighbours
from models.ranking_features import ACROSS, ALIKE, STEPS, WIDE

_NEAR, _FAR = 5, 20
_SHRINKAGE = 10.0  # pseudo-counts that keep rare items' transitions small
_SIMILARITY_SHRINKAGE = 20.0


def fit_neighbours(log: Log, items: int, k: int) -> dict[str, FittedNeighbours]:
    """Return the neighbour tables by name, each item's `k` strongest.

    Transitions within a distance weigh 1/distance. Events of one second have no order, so they count both ways, or, in
    the table `across`, not at all. Similarity is the cosine of the items' sets of users, shrunk.
    """
    near_within, near_across = _transitions(log, items, _NEAR)
    far_within, far_across = _transitions(log, items, _FAR)
    near, far = near_within + near_within.T + near_across, far_within + far_within.T + far_across
    return {
        STEPS: _strongest(_normalised(near, 0.0), k),
        ACROSS: _strongest(_normalised(near_across, 0.0), k),
        WIDE: _strongest(_normalised(far, _SHRINKAGE), k),
        ALIKE: similar_items(log, items, k),
    }


def similar_items(log: Log, items: int, k: int) -> FittedNeighbours:
    """Return each item's `k` most similar: the shrunk cosine of their sets of users."""
    return _strongest(_cosine(log, items), k)


def _transitions(log: Log, items: int, window: int) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Return the counts within seconds and across them, [from, to]."""
    within, across = sparse.csr_array((items, items)), sparse.csr_array((items, items))
    wanted = log.wanted
    users, rows, seconds = log.users[wanted], log.rows[wanted], log.times[wanted] // 1000
    for distance in range(1, window + 1):
        same_user = users[:-distance] == users[distance:]
        same_second = seconds[:-distance] == seconds[distance:]
        within += _count(rows[:-distance], rows[distance:], same_user & same_second, distance, items)
        across += _count(rows[:-distance], rows[distance:], same_user & ~same_second, distance, items)
    return within, across


def _count(
    source: NDArray[np.int64], target: NDArray[np.int64], kept: NDArray[np.bool_], distance: int, items: int
) -> sparse.csr_array:
    weights = np.full(int(kept.sum()), 1.0 / distance)
    return sparse.csr_array((weights, (source[kept], target[kept])), shape=(items, items))


def _normalised(counts: sparse.csr_array, shrinkage: float) -> sparse.csr_array:
    totals = counts.sum(axis=1) + shrinkage
    return sparse.csr_array(sparse.diags_array(1.0 / np.maximum(totals, 1e-9)) @ counts)


def _cosine(log: Log, items: int) -> sparse.csr_array:
    wanted = log.wanted
    pairs = np.unique(np.stack((log.users[wanted], log.rows[wanted])), axis=1)
    shape = (len(log.starts) - 1, items)
    used = sparse.csr_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=shape)
    both = sparse.coo_array(used.T @ used)
    norms = np.sqrt(both.diagonal())
    source, target = both.coords
    weights = both.data / (norms[source] * norms[target] + _SIMILARITY_SHRINKAGE)
    kept = source != target
    return sparse.csr_array((weights[kept], (source[kept], target[kept])), shape=(items, items))


def _strongest(weights: sparse.csr_array, k: int) -> FittedNeighbours:
    items = weights.shape[0]
    k = min(k, items)
    rows, strengths = np.zeros((items, k), dtype=np.int32), np.zeros((items, k), dtype=np.float32)
    for row, (neighbours, values) in enumerate(_by_row(weights)):
        order = np.lexsort((neighbours, -values))[:k]
        rows[row, : len(order)] = neighbours[order]
        strengths[row, : len(order)] = values[order]
    return FittedNeighbours(rows, strengths)


def _by_row(weights: sparse.csr_array) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float64]]]:
    weights.sum_duplicates()
    for first, last in zip(weights.indptr[:-1], weights.indptr[1:], strict=True):
        yield weights.indices[first:last], weights.data[first:last]
