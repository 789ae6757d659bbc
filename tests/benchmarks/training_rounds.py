"""Timing of several things in turn, so that what else the machine does meets all of them alike."""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping

Seconds = dict[str, list[float]]


def alternate(steps: Mapping[str, Callable[[int], object]], rounds: int, length: int) -> Seconds:
    """Take `length` numbered steps of each, `rounds` times, every other round in reverse; seconds a step by round.

    A round of each goes before, untimed.
    """
    found: Seconds = {name: [] for name in steps}
    for number in range(-1, rounds):
        for name in list(steps)[:: 1 if number % 2 else -1]:
            started = time.perf_counter()
            for step in range(length):
                steps[name]((number + 1) * length + step)
            if number >= 0:
                found[name].append((time.perf_counter() - started) / length)
    return found


def spread(values: Iterable[float]) -> dict[str, float]:
    """Return the median with the lowest and the highest."""
    values = list(values)
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def shown(row: Mapping[str, float], form: str) -> str:
    """Return a spread as text."""
    return f"{row['median']:{form}} ({row['low']:{form}} to {row['high']:{form}})"
