"""Nearest item vectors by inner product: an index over the trained items, an exact side table for those added later."""

import faiss
import numpy as np
from numpy.typing import NDArray

from models.tables import GrowingTable

_EXACT_UP_TO = 20_000

Rows = NDArray[np.int64]
Vector = NDArray[np.float32]


class VectorIndex:
    """Searches `vectors`; added rows are found at once. Exact up to 20,000 trained items, half precision above."""

    def __init__(self, vectors: GrowingTable[np.float32]) -> None:
        self._vectors = vectors
        trained = np.ascontiguousarray(vectors.trained)
        if len(trained) <= _EXACT_UP_TO:
            self._index = _empty_index(len(trained), trained.shape[1])
        self._index.add(trained)

    def search(self, query: Vector, k: int) -> tuple[Rows, Vector]:
        """Return the `k` best rows, or all when there are fewer, best first, and their scores, float32."""
        scores, rows = self._index.search(query[None], min(k, len(self._vectors.trained)))
        added = self._vectors.added
        if not len(added):
            return rows[0].astype(np.int64), scores[0]
        rows = np.concatenate((rows[0], np.arange(len(added)) + len(self._vectors.trained)))
        scores = np.concatenate((scores[0], added @ query))
        order = np.argsort(-scores, kind="stable")[:k]
        return rows[order].astype(np.int64), scores[order]


def _empty_index(items: int, width: int) -> faiss.Index:
    if items <= _EXACT_UP_TO:
        return faiss.IndexFlatIP(width)
    return faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
