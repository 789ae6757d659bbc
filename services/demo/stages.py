"""The stages of a long command: shown while they run, timed when they are done."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Stage:
    """A running stage: `progress` moves its bar, `say` leaves a line with what came out."""

    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def expect(self, total: int) -> None:
        """Say how many steps there are."""
        self._bar.update(self._task, total=total)

    def progress(self, steps: int) -> None:
        """Say how many more steps are done."""
        self._bar.advance(self._task, steps)

    def say(self, line: str) -> None:
        """Leave a line of text."""
        self._bar.console.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)


class Stages:
    """Runs stages one after another and keeps their seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self.seconds: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the first stage could start."""
        return time.monotonic() - self._started

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[Stage]:
        """Run one stage; its seconds are kept under `name` when it ends well."""
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        started = time.monotonic()
        with Progress(*columns, console=self._console, transient=True) as bar:
            yield Stage(bar, bar.add_task(title, total=None))
        self.seconds[name] = round(time.monotonic() - started, 3)
        self._console.print(f"[green]✔[/green] {title} [dim]{self.seconds[name]:.1f} s[/dim]", highlight=False)
