"""The gate: a model becomes the champion only when held-out users say that it is not worse.

Both models are asked about the same users on one slice of time that is later than what either was trained on; what is
compared is the relative difference of NDCG@10, paired over users.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from models.metrics import paired_bootstrap
from streaming.errors import FlywheelError
from streaming.ids import UserId

MIN_USERS = 500
_WORST_RELATIVE_LOSS = -0.02


class SliceOverlaps(FlywheelError):
    """The slice begins before the end of what a model was trained on."""


class GateRefused(FlywheelError):
    """The gate did not pass, and nobody gave a reason to promote all the same."""


class Evaluated(msgspec.Struct, frozen=True):
    """A model's NDCG@10 by user on the slice; `trained_until` in ms."""

    model_version: str
    trained_until: int
    ndcg10: Mapping[UserId, float]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found. `low` is the lower end of the 95 % interval of the relative difference."""

    outcome: Literal["pass", "fail", "insufficient data", "no champion"]
    against: str | None
    users: int
    relative_difference: float | None = None
    low: float | None = None

    @property
    def passed(self) -> bool:
        """Whether the model may be promoted without a reason."""
        return self.outcome == "pass"

    def require(self, reason: str | None) -> None:
        """Raise GateRefused unless the gate passed or there is a reason to promote all the same."""
        if not self.passed and reason is None:
            raise GateRefused(f"the gate did not pass ({self.sentence()}): give a reason to promote all the same")

    def sentence(self) -> str:
        """Return the verdict in words."""
        if self.relative_difference is None:
            return f"{self.outcome}, {self.users} users"
        return (
            f"{self.outcome}, {self.users} users, relative NDCG@10 {self.relative_difference:+.3f}, low {self.low:+.3f}"
        )


def judge(candidate: Evaluated, champion: Evaluated | None, slice_start: int, seed: int) -> Verdict:
    """Compare a candidate with the champion on the slice that begins at `slice_start`, ms.

    Fewer than 500 common users are no pass, whatever the values. Raises SliceOverlaps when a model has seen the slice.
    """
    for model in (candidate, champion):
        if model is not None and model.trained_until > slice_start:
            raise SliceOverlaps(f"model {model.model_version!r} was trained on a part of the slice: take a later slice")
    if champion is None:
        return Verdict(outcome="no champion", against=None, users=len(candidate.ndcg10))
    users = sorted(candidate.ndcg10.keys() & champion.ndcg10.keys())
    if len(users) < MIN_USERS:
        return Verdict(outcome="insufficient data", against=champion.model_version, users=len(users))
    ours = np.array([candidate.ndcg10[user] for user in users])
    theirs = np.array([champion.ndcg10[user] for user in users])
    scale = max(float(theirs.mean()), 1e-12)
    interval = paired_bootstrap(ours / scale, theirs / scale, seed)
    return Verdict(
        outcome="pass" if interval.low > _WORST_RELATIVE_LOSS else "fail",
        against=champion.model_version,
        users=len(users),
        relative_difference=interval.difference,
        low=interval.low,
    )
