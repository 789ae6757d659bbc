"""What the ranking suite reports of probabilities, and how the ranker is compared with logistic regression.

Log loss and calibration are means over rows. A difference's interval resamples users with replacement, each with all
their rows and both models' losses together (95 %, percentile); a ranker's losses are first averaged over its seeds.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import bootstrap_ratio
from models.calibration import expected_calibration_error, reliability

BINS, DRAWS, SEED = 10, 10_000, 7
LARGEST_ERROR, LARGEST_BIAS = 0.02, 0.015

Floats = NDArray[np.float64]


def losses(probabilities: Floats, labels: Floats) -> Floats:
    """Return the log loss of each row, nats."""
    found: Floats = -np.log(np.where(labels == 1, probabilities, 1 - probabilities))
    return found


def figures(probabilities: Floats, labels: Floats) -> dict[str, Any]:
    """Return log loss, area under the ROC curve, and calibration with its reliability rows."""
    return {
        "rows": len(labels),
        "log_loss": float(losses(probabilities, labels).mean()),
        "auc": _auc(probabilities, labels),
        "ece10": expected_calibration_error(probabilities, labels, BINS),
        "mean_prediction": float(probabilities.mean()),
        "rate": float(labels.mean()),
        "bias": float(probabilities.mean() - labels.mean()),
        "reliability": [asdict(row) for row in reliability(probabilities, labels, BINS)],
    }


def difference(ours: Floats, theirs: Floats, users: NDArray[np.int64]) -> dict[str, float]:
    """Return the mean over rows of `ours - theirs`, losses of the same rows, and its interval over users."""
    _, code = np.unique(users, return_inverse=True)
    found = bootstrap_ratio(np.bincount(code, weights=ours - theirs), np.bincount(code), SEED, DRAWS)
    return {"users": int(code.max()) + 1, "difference": found.mean, "low": found.low, "high": found.high}


def is_calibrated(row: dict[str, Any]) -> bool:
    """Whether calibration error and bias are within the bounds."""
    return bool(row["ece10"] < LARGEST_ERROR and abs(row["bias"]) <= LARGEST_BIAS)


def _auc(probabilities: Floats, labels: Floats) -> float:
    """Return the share of pairs of a liked and another row that are in order; ties count half."""
    _, tied, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[tied]
    positive = labels.sum()
    return float((ranks[labels == 1].sum() - positive * (positive + 1) / 2) / (positive * (len(labels) - positive)))
