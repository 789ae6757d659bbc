"""What training says of itself while it runs: each step that is done, and now and then how long embedding rows are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from models.trained_retrieval import TrainedRetrieval

Norms = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class NormSummary:
    """A table's row lengths: their mean, the largest, and the share of rows beyond the limit."""

    mean: float
    largest: float
    beyond: float

    @classmethod
    def of(cls, norms: NDArray[np.float32], limit: float) -> "NormSummary":
        """Sum up lengths float32 [rows], of which there must be one."""
        return cls(float(norms.mean()), float(norms.max()), float((norms > limit).mean()))


@dataclass(frozen=True)
class Step:
    """A step that is done, the `number`th of `steps`, from 1.

    `rate` is the dense weights' learning rate, `samples` how many interactions (sequence model) or groups (ranker) all
    processes trained on. `norms`, at the end of a pass and else empty, are the lengths of the embedding rows, float32
    [rows] by table. `trained` gives the sequence model as it is now; every process must call it.
    """

    number: int
    steps: int
    loss: float
    rate: float
    samples: int
    norms: Norms = field(default_factory=dict)
    trained: "Callable[[], TrainedRetrieval] | None" = None

    @property
    def share(self) -> float:
        """The share of the part's steps that is done, 0 to 1."""
        return self.number / self.steps


Report = Callable[[Step], None]
"""Hears of every step of one part of training."""

Progress = Callable[[str, Step], None]
"""Hears of the name of a part of training and of every step of it."""


class Pace:
    """How many samples a second each part of training takes, and when it will be done; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun: dict[str, tuple[float, int]] = {}
        self._samples: dict[str, int] = {}

    def heard(self, part: str, step: Step) -> tuple[float, float] | None:
        """Return samples a second and the seconds left, since the first step that was heard of; None at that one."""
        now = self._clock()
        if part not in self._begun:
            self._begun[part] = now, step.number
            self._samples[part] = 0
            return None
        begun, first = self._begun[part]
        self._samples[part] += step.samples
        seconds = max(now - begun, 1e-9)
        return self._samples[part] / seconds, seconds * (step.steps - step.number) / (step.number - first)
