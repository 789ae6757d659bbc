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
    after = relevance - (1.0 - diversity.relevance) * (directions @ directions.T).astype(np.float64)
    np.fill_diagonal(after, -np.inf)  # what is chosen is not chosen again
    bounds = list(after)
    marginal = relevance + (1.0 - diversity.relevance)  # as if what was chosen before were opposite to all
    order = []
    for _ in range(count):
        chosen = marginal.argmax()
        order.append(chosen)
        np.minimum(marginal, bounds[chosen], out=marginal)
    return np.concatenate((ranked[:count][order], ranked[count:]))
