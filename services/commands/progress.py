"""Training's progress: bars with loss, samples a second and time left on a terminal, else a line now and then."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from models.progress import NormSummary, Pace, Step

_EVERY_S = 10.0


class TrainingProgress:
    """Shows what it hears of training, and warns of embedding rows longer than `norm_limit`."""

    def __init__(self, console: Console, norm_limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._limit = norm_limit
        self._clock = clock
        self._pace = Pace(clock)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._said_at = -_EVERY_S

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def heard(self, part: str, step: Step) -> None:
        """Show one step of a part."""
        said = _said(step, self._pace.heard(part, step))
        if self._console.is_terminal:
            self._update(part, step, said)
        elif step.share == 1 or self._clock() - self._said_at >= _EVERY_S:
            self._said_at = self._clock()
            self.say(f"{part}: step {step.number} of {step.steps}, {said}")
        for table, norms in step.norms.items():
            summary = NormSummary.of(norms, self._limit)
            if summary.beyond:
                self.say(
                    f"warning: {part}, step {step.number}: {summary.beyond:.1%} of the rows of table {table!r} are "
                    f"longer than {self._limit:g}, the longest {summary.largest:.3g}: lower embedding_learning_rate"
                )

    def _update(self, part: str, step: Step, said: str) -> None:
        if part not in self._tasks:
            self._tasks[part] = self._bars.add_task(part, total=step.steps, said=said)
        self._bars.update(self._tasks[part], completed=step.number, said=said, visible=step.share < 1)

    def say(self, line: str) -> None:
        """Leave a line of text."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def _said(step: Step, pace: tuple[float, float] | None) -> str:
    if pace is None:
        return f"loss {step.loss:.4f}"
    samples, left = pace
    return f"loss {step.loss:.4f}, {samples:,.0f} samples/s, {left:.0f} s left"
