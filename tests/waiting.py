"""Waiting for conditions, never for time."""

import time
from collections.abc import Callable
from typing import Any


def wait_until(
    condition: Callable[[], Any], seconds: float = 30, otherwise: Callable[[], str] = lambda: "the condition never held"
) -> Any:
    """Return the condition's first true value; fails with what `otherwise` says after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {otherwise()}"
        time.sleep(0.02)
    return value
