"""One score from the ranker's tasks. Numpy only."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.spec import TaskSpec
from streaming.errors import FlywheelError


class UnknownTask(FlywheelError):
    """A weight names a conversion that the model does not predict."""


def combined(
    logits: NDArray[np.float32], conversions: Sequence[TaskSpec], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    """Return float32 [n]: the logit of the choice + the sum over tasks of weight * log of the task's probability.

    `logits` is float32 [n, 1 + conversions]. The exponential of the choice's logit is proportional to the chance that
    an item is chosen, so with a weight of 1 the order is that of being chosen and converted; without weights it is
    that of being chosen. Raises UnknownTask for a weight of another task.
    """
    names = [task.name for task in conversions]
    for name in weights.keys() - set(names):
        raise UnknownTask(f"the model predicts no {name!r} ({', '.join(names) or 'clicks alone'}): weigh another task")
    score = logits[:, 0].astype(np.float64)
    for number, task in enumerate(conversions, start=1):
        weight = weights.get(task.name, 0.0)
        if weight:
            calibrator = task.calibrator
            score -= weight * np.logaddexp(0.0, -(calibrator.scale * logits[:, number] + calibrator.shift))
    return score.astype(np.float32)
