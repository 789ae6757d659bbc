"""Vectors of length 1, whose dot products are cosines. Numpy only."""

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


def unit(vectors: Vectors) -> Vectors:
    """Return float32 [n, dim] vectors divided by their lengths; a vector of zeros stays one."""
    scaled: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return scaled
