"""`retrieval`: the best 200 of a million vectors and more, in this process, one thread: CPU-ms and recall.

The vectors are those of the benchmark's world, a query the mean of a history drawn from a few groups of it, as an
untrained stand-in for a user's vector. The index is built by the code that builds it at export, on other queries than
those that are measured.
"""

import time
from argparse import Namespace
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from serving_model import group_vectors
from serving_world import GROUP_SIZE

from models.index import GATE_K, VectorIndex, build_index
from models.tables import GrowingTable
from models.top import best

KEY = "retrieval"
_DIM, _QUERIES, _EVENTS = 64, 200, 10


def run(options: Namespace) -> dict[str, Any]:
    """Measure for a million vectors, ten with `--huge`, a tenth with `--quick`."""
    faiss.omp_set_num_threads(1)
    sizes = [100_000] if options.quick else [1_000_000, *([10_000_000] if options.huge else [])]
    rows = [_measured(size, options.seed) for size in sizes]
    failed = [f"recall of {row['items']:,}" for row in rows if row["recall"] < 0.98]
    return {"dim": _DIM, "k": GATE_K, "sizes": rows, "failed": failed}


def table(report: dict[str, Any]) -> Table:
    """Return a row for each size."""
    shown = Table(title=f"Best {report['k']} of vectors of width {report['dim']}, one thread")
    for name in ("items", "CPU-ms a query", "recall", "recall in building", "MB", "CPU-s to build"):
        shown.add_column(name)
    for row in report["sizes"]:
        values = (row["cpu_ms"], row["recall"], row["recall_built"], row["mb"], row["build_cpu_s"])
        shown.add_row(f"{row['items']:,}", *(f"{value:.3f}" for value in values))
    return shown


def _measured(items: int, seed: int) -> dict[str, Any]:
    vectors = group_vectors(items, _DIM, seed)
    rng = np.random.default_rng(seed + 1)
    started = time.process_time()
    built = build_index(vectors, _queries(vectors, rng))
    build_cpu_s = time.process_time() - started
    index, queries = VectorIndex(built.data, GrowingTable(vectors)), _queries(vectors, rng)
    index.search(queries[0], GATE_K)
    started = time.thread_time()
    found = [index.search(query, GATE_K)[0] for query in queries]
    cpu_ms = 1000 * (time.thread_time() - started) / len(queries)
    wanted = [best(vectors @ query, GATE_K) for query in queries]
    return {
        "items": items,
        "cpu_ms": cpu_ms,
        "recall": float(np.mean([np.isin(one, other).mean() for one, other in zip(wanted, found, strict=True)])),
        "recall_built": built.recall,
        "mb": len(built.data) / 1e6,
        "build_cpu_s": build_cpu_s,
    }


def _queries(vectors: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    groups = rng.integers(0, len(vectors) // GROUP_SIZE, (_QUERIES, 3))
    chosen = groups[np.arange(_QUERIES)[:, None], rng.integers(0, 3, (_QUERIES, _EVENTS))]
    queries = vectors[chosen * GROUP_SIZE + rng.integers(0, GROUP_SIZE, chosen.shape)].mean(axis=1)
    queries[:, -1] = 1.0  # meets the items' bias
    return queries
