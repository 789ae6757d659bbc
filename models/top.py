"""The largest of many values without sorting them all. Numpy only."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def best(values: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return where the `k` largest of `values`, [n], lie, largest first, of equals the first: all when n is below `k`.

    That is `np.argsort(-values, kind="stable")[:k]`, for values that are numbers.
    """
    if k <= 0:
        return np.zeros(0, dtype=np.int64)
    if k >= len(values):
        return np.argsort(-values, kind="stable")
    least = np.partition(values, len(values) - k)[len(values) - k]
    among = np.flatnonzero(values >= least)
    return among[np.argsort(-values[among], kind="stable")[:k]]
