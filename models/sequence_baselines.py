"""Baselines on order alone: simple rankers that every report shows beside a sequence model.

Each is fitted on the sequences that it is given; the histories that it is asked with may be longer. The similarities of
items are dense matrices, so catalogues are small (3,416 items: 93 MB each).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from models.sequences import Sequences

Scores = NDArray[np.float64]
Matrix = NDArray[np.float64]

_USERS_AT_ONCE = 1024


class Popularity:
    """The number of training events."""

    def __init__(self, training: Sequences) -> None:
        self._counts = training.counts().astype(np.float64)

    def scores(self, histories: Sequences) -> Scores:
        """The same for everybody."""
        return np.tile(self._counts, (histories.users, 1))


class ItemKnn:
    """Sums, over the history, the cosine similarities of each candidate's `k` nearest items (binary histories).

    No shrinkage; an item is not its own neighbour. B. Sarwar et al., Item-based collaborative filtering recommendation
    algorithms, WWW 2001.
    """

    def __init__(self, training: Sequences, k: int = 50) -> None:
        similarity = co_occurrences(training)
        norms = np.sqrt(similarity.diagonal())
        similarity /= np.maximum(np.outer(norms, norms), 1e-12)
        np.fill_diagonal(similarity, 0.0)
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        candidates = np.arange(training.items)[:, None]
        kept = similarity[candidates, nearest].ravel()
        places = (nearest.ravel(), np.repeat(candidates, nearest.shape[1]))
        self._votes = sparse.csr_array((kept, places), shape=similarity.shape)

    def scores(self, histories: Sequences) -> Scores:
        """Zero without history."""
        return _dense(histories.seen().astype(np.float64) @ self._votes)


class Ease:
    """A linear model of each item by all others, in closed form, with L2 weight `strength`.

    H. Steck, Embarrassingly shallow autoencoders for sparse data, WWW 2019.
    """

    def __init__(self, training: Sequences, strength: float = 200.0) -> None:
        gram = co_occurrences(training)
        gram[np.diag_indices_from(gram)] += strength
        inverse = np.linalg.inv(gram)
        weights: Matrix = inverse / -inverse.diagonal()
        np.fill_diagonal(weights, 0.0)
        self._weights = weights

    def scores(self, histories: Sequences) -> Scores:
        """Zero without history."""
        return _dense(histories.seen().astype(np.float64) @ self._weights)


class Markov:
    """A windowed Markov chain: transitions within `window` steps weigh 1/distance, and so do the last items' votes.

    Plus `back_off` times each item's share among all transition targets, so that unvisited items have an order.
    """

    def __init__(self, training: Sequences, window: int = 5, back_off: float = 0.01) -> None:
        self._window = window
        counts = _transitions(training, window)
        totals = counts.sum(axis=1)
        self._steps = sparse.csr_array(sparse.diags_array(1.0 / np.maximum(totals, 1e-12)) @ counts)
        self._back_off: Scores = back_off * counts.sum(axis=0) / max(totals.sum(), 1e-12)

    def scores(self, histories: Sequences) -> Scores:
        """The back-off alone without history."""
        scores = np.tile(self._back_off, (histories.users, 1))
        newest, steps = histories.newest(self._window), self._steps
        # Row by row: for one user, as a live baseline is asked, a sparse product takes four times as long.
        for user, place in zip(*np.nonzero(newest >= 0), strict=True):
            row = newest[user, place]
            voted = slice(steps.indptr[row], steps.indptr[row + 1])
            scores[user, steps.indices[voted]] += steps.data[voted] / (place + 1)
        return scores


def co_occurrences(sequences: Sequences) -> Matrix:
    """Return how many users came to both items of each pair, on the diagonal to the item: float64[items, items]."""
    both = np.zeros((sequences.items, sequences.items))
    for first in range(0, sequences.users, _USERS_AT_ONCE):
        # Dense, since the product is; float32 counts up to 2**24 exactly.
        seen = sequences.batch(first, first + _USERS_AT_ONCE).seen().toarray()
        both += seen.T @ seen
    return both


def _transitions(sequences: Sequences, window: int) -> sparse.csr_array:
    rows, owners = sequences.rows, sequences.owners()
    counts = sparse.csr_array((sequences.items, sequences.items))
    for distance in range(1, min(window, len(rows) - 1) + 1):
        same = owners[:-distance] == owners[distance:]
        places = (rows[:-distance][same], rows[distance:][same])
        counts += sparse.csr_array((np.full(int(same.sum()), 1.0 / distance), places), shape=counts.shape)
    return counts


def _dense(scores: Any) -> Scores:
    dense: Scores = scores.toarray() if sparse.issparse(scores) else scores
    return dense
