"""Stopping a training that diverges, before its weights are saved or served."""

import math
from collections.abc import Sequence
from statistics import median

from streaming.errors import FlywheelError

_RECENT = 50
_SPIKE = 5.0


class TrainingDiverged(FlywheelError):
    """The loss is no number any more, or many times what it was."""


def check_loss(losses: Sequence[float]) -> None:
    """Raise TrainingDiverged when the last of `losses`, one a step, is not finite or a spike.

    A spike is more than 5 times the median of the 50 losses before it, once there are so many.
    """
    last = losses[-1]
    if not math.isfinite(last):
        raise TrainingDiverged(
            f"the loss of step {len(losses)} is {last}: lower the learning rates, or look for {last} in the data"
        )
    before = losses[-_RECENT - 1 : -1]
    if len(before) == _RECENT and last > _SPIKE * median(before):
        raise TrainingDiverged(
            f"the loss of step {len(losses)} is {last:.3g} after a median of {median(before):.3g}: "
            "lower the learning rates"
        )
