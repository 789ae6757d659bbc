"""The gate: a model becomes the champion only when held-out users say that it is not worse.

All models are asked about the same users on one slice of time that is later than what any of them was trained on. What
is compared, with the champion and with a frozen reference, is the relative difference of NDCG@10, paired over users,
and coverage. By itself the model is asked for the calibration of its ranker, where training could measure it.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from models.config import GateSettings
from models.metrics import paired_bootstrap
from streaming.errors import FlywheelError
from streaming.ids import UserId

Outcome = Literal["pass", "fail", "insufficient data", "unreadable"]

CALIBRATION_ERROR = "ranking_calibration_error"
"""Among an artifact's metrics, the most by which a task's expected calibration error exceeds what chance would show."""


class SliceOverlaps(FlywheelError):
    """The slice begins before the end of what a model was trained on."""


class GateRefused(FlywheelError):
    """The gate did not pass, and nobody gave a reason to promote all the same."""


class Evaluated(msgspec.Struct, frozen=True):
    """A model's NDCG@10 by user on the slice; `trained_until` in ms.

    `coverage10` counts the different items among the first ten of all users. `calibration_error` is the ranker's as
    training has measured it, None when it has not.
    """

    model_version: str
    trained_until: int
    ndcg10: Mapping[UserId, float]
    coverage10: int
    calibration_error: float | None = None


class Unreadable(msgspec.Struct, frozen=True):
    """A model that a candidate cannot be compared with, and why."""

    model_version: str
    why: str


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate is beside one other model.

    `low` is the lower end of the 95 % interval of the relative difference, `coverage` the candidate's coverage as a
    share of the other's. With too few users nothing is compared, nor when the other cannot be read: `why` says why.
    """

    outcome: Outcome
    model_version: str
    users: int
    relative_difference: float | None = None
    low: float | None = None
    coverage: float | None = None
    why: str | None = None

    def sentence(self) -> str:
        """Return the comparison in words."""
        if self.why is not None:
            return f"{self.model_version} cannot be compared with: {self.why}"
        found = f"{self.outcome} against {self.model_version}, {self.users} users"
        if self.relative_difference is None:
            return found
        return (
            f"{found}, relative NDCG@10 {self.relative_difference:+.3f}, low {self.low:+.3f}, "
            f"coverage@10 ratio {self.coverage:.2f}"
        )


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate found on the slice from `slice_start`, ms; `against` the champion and the reference by role.

    `calibration_error` is None when training has not measured it, and then nothing is asked of it.
    """

    outcome: Outcome | Literal["no champion"]
    slice_start: int
    against: dict[str, Comparison]
    calibration_error: float | None = None
    calibration_limit: float

    @property
    def passed(self) -> bool:
        """Whether the model may be promoted without a reason."""
        return self.outcome == "pass"

    def require(self, forced: bool) -> None:
        """Raise GateRefused unless the gate passed or the promotion is forced."""
        if not self.passed and not forced:
            raise GateRefused(
                f"the gate did not pass ({self.sentence()}): `--force --reason TEXT` promotes all the same"
            )

    def sentence(self) -> str:
        """Return the verdict in words."""
        compared = [f"{role}: {found.sentence()}" for role, found in self.against.items()]
        return "; ".join([self.outcome, *compared, self._calibration()])

    def _calibration(self) -> str:
        if self.calibration_error is None:
            return "calibration was not measured in training"
        return f"calibration error {self.calibration_error:.3f}, limit {self.calibration_limit:g}"


def judge(
    candidate: Evaluated,
    opponents: Mapping[str, Evaluated | Unreadable],
    slice_start: int,
    limits: GateSettings,
    seed: int,
) -> Verdict:
    """Compare a candidate with its opponents, by role, on the slice that begins at `slice_start`, ms.

    It passes when it passes against each and is calibrated, as far as that was measured; without opponents there is no
    champion yet, which is no pass either. Raises SliceOverlaps when a model has seen the slice.
    """
    for model in (candidate, *opponents.values()):
        if isinstance(model, Evaluated) and model.trained_until > slice_start:
            raise SliceOverlaps(f"model {model.model_version!r} was trained on a part of the slice: take a later slice")
    against = {role: _compare(candidate, opponent, limits, seed) for role, opponent in opponents.items()}
    error = candidate.calibration_error
    return Verdict(
        outcome=_outcome(against, error is None or error <= limits.calibration),
        slice_start=slice_start,
        against=against,
        calibration_error=error,
        calibration_limit=limits.calibration,
    )


def _outcome(against: Mapping[str, Comparison], calibrated: bool) -> Outcome | Literal["no champion"]:
    found = {comparison.outcome for comparison in against.values()}
    if not found:
        return "no champion"
    worst: tuple[Outcome, ...] = ("fail", "unreadable", "insufficient data")
    return next((outcome for outcome in worst if outcome in found or (outcome == "fail" and not calibrated)), "pass")


def _compare(candidate: Evaluated, opponent: Evaluated | Unreadable, limits: GateSettings, seed: int) -> Comparison:
    if isinstance(opponent, Unreadable):
        return Comparison(outcome="unreadable", model_version=opponent.model_version, users=0, why=opponent.why)
    users = sorted(candidate.ndcg10.keys() & opponent.ndcg10.keys())
    if len(users) < limits.users:
        return Comparison(outcome="insufficient data", model_version=opponent.model_version, users=len(users))
    ours = np.array([candidate.ndcg10[user] for user in users])
    theirs = np.array([opponent.ndcg10[user] for user in users])
    scale = max(float(theirs.mean()), 1e-12)
    interval = paired_bootstrap(ours / scale, theirs / scale, seed)
    coverage = candidate.coverage10 / max(opponent.coverage10, 1)
    return Comparison(
        outcome="pass" if interval.low > -limits.tolerance and coverage >= limits.coverage else "fail",
        model_version=opponent.model_version,
        users=len(users),
        relative_difference=interval.difference,
        low=interval.low,
        coverage=coverage,
    )
