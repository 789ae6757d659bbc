"""Maximal marginal relevance (J. Carbonell and J. Goldstein, The Use of MMR, SIGIR 1998) over item vectors."""

import numpy as np
from numpy.typing import NDArray

from models.cosine import unit
from services.recommend.surfaces import Diversity

Rows = NDArray[np.int64]


def diversified(ranked: Rows, vectors: NDArray[np.float32], diversity: Diversity) -> Rows:
    """Return `ranked`, int64[n], best first, with the best `pool` of them in the order of marginal relevance.

    `vectors`, float32 [min(n, pool), dim], are those of the first rows. With λ = `relevance`, next comes the row with
    the greatest λ · r - (1 - λ) · max cosine to the rows before it, where r = 1 - place / pool: scores of two queries
    do not compare, places do. Ties keep the ranked order.
    """
    count = len(vectors)
    directions = unit(vectors)
    relevance = diversity.relevance * (1.0 - np.arange(count) / max(count, 1))
    nearest = np.full(count, -1.0, dtype=np.float64)  # cosine to the nearest row chosen so far
    order = np.zeros(count, dtype=np.int64)
    left = np.ones(count, dtype=np.bool_)
    for place in range(count):
        marginal = relevance - (1.0 - diversity.relevance) * nearest
        marginal[~left] = -np.inf
        chosen = order[place] = int(np.argmax(marginal))
        left[chosen] = False
        nearest = np.maximum(nearest, directions @ directions[chosen])
    return np.concatenate((ranked[:count][order], ranked[count:]))
