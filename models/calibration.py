"""Probabilities that mean what they say: Platt scaling of logits, and the distance of predictions from rates.

Numpy only. J. Platt, Probabilistic outputs for support vector machines, Advances in Large Margin Classifiers, 1999;
Newton's method with backtracking after H.-T. Lin, C.-J. Lin and R. Weng, Machine Learning 68(3), 2007.
"""

from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from streaming.errors import FlywheelError

Floats = NDArray[np.float64]

_STEPS, _SMALLEST_STEP, _FLAT = 100, 1e-10, 1e-9


class NotCalibrated(FlywheelError):
    """Logits, labels or weights that no calibration can be computed from."""


class Calibrator(msgspec.Struct, frozen=True):
    """A logit's probability is 1 / (1 + exp(-(scale * logit + shift))); a positive scale keeps the order."""

    scale: float
    shift: float

    def apply(self, logits: ArrayLike) -> Floats:
        """Return float64 probabilities in the shape of `logits`."""
        return _sigmoid(self.scale * np.asarray(logits, dtype=np.float64) + self.shift)


@dataclass(frozen=True)
class ReliabilityRow:
    """One bin of predictions: their mean, the share of positive labels, and how many rows."""

    prediction: float
    rate: float
    count: int


def fit_calibrator(logits: ArrayLike, labels: ArrayLike, weights: ArrayLike | None = None) -> Calibrator:
    """Return the calibrator of the highest likelihood for `logits` and `labels` (0 or 1), both [n]; `weights` [n].

    As Platt has it, a positive counts as (P + 1) / (P + 2) and a negative as 1 / (N + 2), with P and N the weight of
    the positives and negatives: the fit is finite where labels are all equal or the logits part them. Logits that do
    not vary give scale 0. Raises NotCalibrated for empty input, other lengths, other labels, or values that are not
    finite.
    """
    logit, label = _finite(logits, "logits"), _labels(labels)
    weight = np.ones_like(logit) if weights is None else _finite(weights, "weights")
    if not len(logit) == len(label) == len(weight):
        raise NotCalibrated(f"{len(logit)} logits, {len(label)} labels and {len(weight)} weights are not of one length")
    if weight.min() < 0 or weight.sum() <= 0:
        raise NotCalibrated("weights must not be negative, and one must be above 0")
    positive = float(weight[label == 1].sum())
    target = np.where(label == 1, (positive + 1) / (positive + 2), 1 / (weight.sum() - positive + 2))
    mean = float(np.average(logit, weights=weight))
    deviation = float(np.sqrt(np.average((logit - mean) ** 2, weights=weight)))
    flat = deviation <= _FLAT * max(1.0, abs(mean))
    columns = np.column_stack((np.zeros_like(logit) if flat else (logit - mean) / deviation, np.ones_like(logit)))
    slope, shift = _newton(columns, target, weight / weight.sum())
    scale = 0.0 if flat else slope / deviation
    return Calibrator(float(scale), float(shift - scale * mean))


def reliability(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> list[ReliabilityRow]:
    """Return the bins of equally many rows, lowest predictions first; fewer than `bins` where there are fewer rows.

    Rows of equal probability share their mean label, so that the order of rows does not matter. Raises NotCalibrated
    for empty input, other lengths, or values outside 0 to 1.
    """
    probability, label = _finite(probabilities, "probabilities"), _labels(labels)
    if len(probability) != len(label):
        raise NotCalibrated(f"{len(probability)} probabilities and {len(label)} labels are not of one length")
    if probability.min() < 0 or probability.max() > 1:
        raise NotCalibrated("probabilities must lie between 0 and 1")
    values, tied, counts = np.unique(probability, return_inverse=True, return_counts=True)
    ascending = np.repeat(values, counts)
    rates = np.repeat(np.bincount(tied, weights=label) / counts, counts)
    parts = np.array_split(np.arange(len(ascending)), min(bins, len(ascending)))
    return [ReliabilityRow(float(ascending[part].mean()), float(rates[part].mean()), len(part)) for part in parts]


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = 10) -> float:
    """Return the mean over rows of |mean prediction - rate| of the row's bin (see `reliability`).

    M. Naeini, G. Cooper and M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning, AAAI 2015.
    """
    rows = reliability(probabilities, labels, bins)
    return sum(row.count * abs(row.prediction - row.rate) for row in rows) / sum(row.count for row in rows)


def error_by_chance(probabilities: ArrayLike, seed: int, bins: int = 10, draws: int = 200) -> float:
    """Return the expected calibration error that these predictions would show on average if they were all true.

    It is what few rows cost by themselves, measured on `draws` sets of labels that are drawn from the predictions.
    """
    probability, rng = _finite(probabilities, "probabilities"), np.random.default_rng(seed)
    drawn = (rng.random(len(probability)) < probability for _ in range(draws))
    return float(np.mean([expected_calibration_error(probability, labels, bins) for labels in drawn]))


def _newton(columns: Floats, target: Floats, weight: Floats) -> tuple[float, float]:
    """Return the coefficients of the least weighted cross-entropy; `columns` [n, 2], the second one all ones."""
    rate = float(weight @ target)
    at = np.array([0.0, np.log(rate / (1 - rate))])
    loss = _loss(columns @ at, target, weight)
    for _ in range(_STEPS):
        probability = _sigmoid(columns @ at)
        gradient = columns.T @ (weight * (probability - target))
        curvature = (columns * (weight * probability * (1 - probability))[:, None]).T @ columns + 1e-12 * np.eye(2)
        direction = -np.linalg.solve(curvature, gradient)
        step = 1.0
        while step > _SMALLEST_STEP:
            new = at + step * direction
            if (new_loss := _loss(columns @ new, target, weight)) < loss + 1e-4 * step * float(gradient @ direction):
                break
            step /= 2
        else:
            break
        at, loss = new, new_loss
    return float(at[0]), float(at[1])


def _loss(logit: Floats, target: Floats, weight: Floats) -> float:
    return float(weight @ (np.logaddexp(0.0, logit) - target * logit))


def _sigmoid(logit: Floats) -> Floats:
    probability: Floats = np.exp(-np.logaddexp(0.0, -logit))
    return probability


def _labels(labels: ArrayLike) -> Floats:
    label = _finite(labels, "labels")
    if not np.isin(label, (0.0, 1.0)).all():
        raise NotCalibrated("labels must be 0 or 1")
    return label


def _finite(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise NotCalibrated(f"{name} must be one row of at least one number")
    if not np.isfinite(array).all():
        raise NotCalibrated(f"{name} must be finite: look for NaN or infinity in what they were computed from")
    return array
