"""What a user had met before each place of a window, so that a softmax need not choose among it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.log import Log


def seen_since(log: Log, windows: Sequence[slice], length: int, items: int) -> NDArray[np.int16]:
    """Return int16 [windows, items]: the place of a window from which on an item is in its user's history.

    0 for what came before the window or is its first event, `length`, which is no place of it, for what comes later or
    never.
    """
    since = np.full((len(windows), items), length, dtype=np.int16)
    firsts = log.starts[np.searchsorted(log.starts, [window.start for window in windows], side="right") - 1]
    for number, (first, window) in enumerate(zip(firsts.tolist(), windows, strict=True)):
        rows = log.rows[first : window.stop]
        places = np.maximum(np.arange(first, window.stop) - window.start, 0)
        known = rows < items
        # Of several meetings the earliest is written last and stays.
        since[number, rows[known][::-1]] = places[known][::-1]
    return since
