"""What a person sees of a training."""

import io

import numpy as np
from rich.console import Console

from models.progress import Step
from services.commands.progress import TrainingProgress

SHORT, LONG = np.ones(4, dtype=np.float32), np.array([1, 1, 1, 90], dtype=np.float32)


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(seconds_a_step: float, terminal: bool, done: int = 12, norms: np.ndarray = SHORT) -> str:
    """What is printed for the first `done` of 12 steps."""
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, force_terminal=terminal, width=100)
    with TrainingProgress(console, 10.0, clock) as progress:
        for number in range(1, done + 1):
            tables = {"item": norms} if number == done else {}
            progress.heard("retrieval", Step(number, 12, 4.0 / number, 0.1, 50, tables))
            clock.now += seconds_a_step
    return file.getvalue()


def test_without_a_terminal_a_line_comes_every_ten_seconds_and_at_the_end() -> None:
    assert shown(4.0, terminal=False).splitlines() == [
        "retrieval: step 1 of 12, loss 4.0000",
        "retrieval: step 4 of 12, loss 1.0000, 12 samples/s, 32 s left",
        "retrieval: step 7 of 12, loss 0.5714, 12 samples/s, 20 s left",
        "retrieval: step 10 of 12, loss 0.4000, 12 samples/s, 8 s left",
        "retrieval: step 12 of 12, loss 0.3333, 12 samples/s, 0 s left",
    ]


def test_a_terminal_shows_a_bar_with_loss_pace_and_time_left() -> None:
    assert " loss 1.3333, 50 samples/s, 9 s left" in shown(1.0, terminal=True, done=3)


def test_rows_beyond_the_limit_are_warned_of_on_both() -> None:
    for terminal in (False, True):
        assert "25.0% of the rows of table 'item' are longer than 10, the longest 90" in shown(1, terminal, norms=LONG)
        assert "warning" not in shown(1, terminal)
