"""Puts the offset that a file holds on this process's clock: how the suite steps clocks without touching the machine's.

Python imports this module at start because its folder is on PYTHONPATH.
"""

import os
import time
from pathlib import Path

_OFFSET = os.environ.get("FAULTS_CLOCK_OFFSET_FILE")
_true_ns = time.time_ns


def _offset_ns() -> int:
    try:
        return int(float(Path(str(_OFFSET)).read_text()) * 1e9)
    except (OSError, ValueError):
        return 0


if _OFFSET is not None:
    time.time_ns = lambda: _true_ns() + _offset_ns()
    time.time = lambda: (_true_ns() + _offset_ns()) / 1e9
