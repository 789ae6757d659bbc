"""A training run as TensorBoard event files: scalars by step of each part, row lengths by pass, metrics at the end."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tensorboardX import SummaryWriter

from models.progress import NormSummary, Pace, Step


class TensorBoardLog:
    """Writes what it hears to event files in a folder of its own, one for each run, made with the first step.

    Tags are `loss/PART`, `learning_rate/PART`, `samples_per_second/PART`, `norm_mean/PART/TABLE`,
    `norm_largest/PART/TABLE`, `norm_beyond_limit/PART/TABLE` (share of rows) and `metrics/NAME`, spaces as underscores.
    """

    def __init__(self, folder: Path, norm_limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = norm_limit
        self._pace = Pace(clock)
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def heard(self, part: str, step: Step) -> None:
        """Write one step's scalars."""
        scalars = {"loss": step.loss, "learning_rate": step.rate}
        if pace := self._pace.heard(part, step):
            scalars["samples_per_second"] = pace[0]
        for name, value in scalars.items():
            self._add(f"{name}/{part}", value, step.number)
        for table, norms in step.norms.items():
            summary = NormSummary.of(norms, self._limit)
            self._add(f"norm_mean/{part}/{table}", summary.mean, step.number)
            self._add(f"norm_largest/{part}/{table}", summary.largest, step.number)
            self._add(f"norm_beyond_limit/{part}/{table}", summary.beyond, step.number)

    def finish(self, metrics: Mapping[str, float]) -> None:
        """Write the metrics of the finished model."""
        for name, value in metrics.items():
            self._add(f"metrics/{name}", value, 0)

    def _add(self, tag: str, value: float, step: int) -> None:
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder))
        self._writer.add_scalar(tag.replace(" ", "_"), value, step)
