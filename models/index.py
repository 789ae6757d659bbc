"""Nearest item vectors by inner product: an index over the trained items, an exact side table for those added later.

The index is built when a model is exported and is part of its artifact. Which one is a matter of size and of a gate:
exact up to 20,000 items; above, inverted lists of vectors in half precision (J. Johnson et al., Billion-scale
similarity search with GPUs, 2017), of which as many are probed as recall@200 of the model's own user vectors needs; and
where half of the lists would not do, every vector in half precision, or at last exact.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import faiss
import numpy as np
from numpy.typing import NDArray

from models.artifact import CorruptArtifact
from models.tables import GrowingTable
from models.top import best

EXACT_UP_TO = 20_000
GATE, GATE_K = 0.99, 200
"""The least recall, averaged over queries, of the best 200 items."""

_FIRST_PROBES = 8
_POINTS_PER_LIST = 40  # that the lists' centres are fitted on

Rows = NDArray[np.int64]
Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class BuiltIndex:
    """An index as faiss serialises it, and its recall@200 in building, 1 when it is exact."""

    data: bytes
    recall: float


class VectorIndex:
    """Searches `vectors`, float32 [items, dim], by an index over the trained ones; added rows are found at once."""

    def __init__(self, data: bytes, vectors: GrowingTable[np.float32]) -> None:
        """Take an index from an artifact; raises CorruptArtifact when it is none or was built on other vectors."""
        self._vectors = vectors
        self._index = _deserialised(data)
        if (self._index.ntotal, self._index.d) != vectors.trained.shape:
            raise CorruptArtifact(
                f"the model's index is over {self._index.ntotal} vectors of width {self._index.d}, its items' vectors "
                f"are {vectors.trained.shape}: train it again"
            )

    def search(self, query: Vector, k: int) -> tuple[Rows, Vector]:
        """Return the `k` best rows, or all when there are fewer, best first, and their dot products, float32."""
        trained = _search(self._index, self._vectors.trained, query, k)
        rows = np.concatenate((trained, np.arange(len(self._vectors.trained), len(self._vectors))))
        scores = self._vectors.take(rows) @ query
        order = best(scores, k)
        return rows[order], scores[order]


def build_index(vectors: Matrix, queries: Matrix) -> BuiltIndex:
    """Return the cheapest index over `vectors`, float32 [items, dim], whose recall passes the gate.

    `queries`, float32 [n, dim], are vectors of the model's users; without any only an exact index passes. The same
    input gives the same bytes.
    """
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    with _one_thread():
        if len(vectors) > EXACT_UP_TO and len(queries):
            wanted = [_exact(vectors, query, GATE_K) for query in queries]
            for index in _approximate(vectors):
                recall = _recall(index, vectors, queries, wanted)
                if recall >= GATE:
                    return BuiltIndex(_serialised(index), recall)
        return BuiltIndex(_serialised(_filled(faiss.IndexFlatIP(vectors.shape[1]), vectors)), 1.0)


def _approximate(vectors: Matrix) -> Iterator[faiss.Index]:
    """Yield indices from the cheapest to the most exact; the lists come again with more of them probed."""
    width = vectors.shape[1]
    half = faiss.ScalarQuantizer.QT_fp16
    lists = 2 ** round(np.log2(4 * np.sqrt(len(vectors))))
    inverted = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(width), width, lists, half, faiss.METRIC_INNER_PRODUCT, False
    )
    inverted.cp.max_points_per_centroid = _POINTS_PER_LIST
    inverted.train(vectors)
    inverted.add(vectors)
    inverted.nprobe = _FIRST_PROBES
    while inverted.nprobe <= lists // 2:
        yield inverted
        inverted.nprobe += max(inverted.nprobe // 4, 1)
    yield _filled(faiss.IndexScalarQuantizer(width, half, faiss.METRIC_INNER_PRODUCT), vectors)


def _recall(index: faiss.Index, vectors: Matrix, queries: Matrix, wanted: list[Rows]) -> float:
    found = [_search(index, vectors, query, GATE_K) for query in queries]
    return float(np.mean([np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)]))


def _search(index: faiss.Index, vectors: Matrix, query: Vector, k: int) -> Rows:
    """Return the `k` best rows, or all when there are fewer, in any order."""
    k = min(k, len(vectors))
    if k == 0:
        return np.zeros(0, dtype=np.int64)
    rows: Rows = index.search(query[None], k)[1][0].astype(np.int64)
    # The lists that are probed may hold fewer than `k`.
    return rows if rows[-1] >= 0 else _exact(vectors, query, k)


def _exact(vectors: Matrix, query: Vector, k: int) -> Rows:
    return best(vectors @ query, k)


def _filled(index: faiss.Index, vectors: Matrix) -> faiss.Index:
    index.train(vectors)
    index.add(vectors)
    return index


def _serialised(index: faiss.Index) -> bytes:
    return bytes(faiss.serialize_index(index))


def _deserialised(data: bytes) -> faiss.Index:
    try:
        return faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
    except RuntimeError as error:
        raise CorruptArtifact(f"the model's index is none that faiss reads: {error}") from error


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep faiss to one thread: with more, sums differ from run to run, and other processes have work, too."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
