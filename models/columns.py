"""Arrow columns as numpy arrays."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.vocabulary import Vocabulary


def rows_of(item_ids: pa.ChunkedArray, vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Return each item's row, -1 for an item outside the vocabulary."""
    rows = pc.index_in(item_ids, value_set=pa.array(vocabulary.item_ids, pa.string()))
    found: NDArray[np.int64] = pc.fill_null(rows, -1).to_numpy().astype(np.int64)
    return found


def floats_of(column: pa.ChunkedArray, fill: float) -> NDArray[np.float32]:
    values: NDArray[np.float32] = pc.fill_null(column.cast(pa.float64()), fill).to_numpy().astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(fill))


def millis_of(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
