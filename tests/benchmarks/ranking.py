"""The suite `ranking`: how well the pointwise ranker says whether a film is liked, beside logistic regression.

MovieLens-100K, like = rating of 4 or 5. Weights are fitted on the first 81 % of the events by time, calibrators on the
next 9 %, and both stay as they are while the last 10 % are asked; features are those of the moment before each rating.
Logistic regression has the same dense features and the same calibration. It is made again with all 90 % to fit on, and
with an item-based neighbourhood's prediction as a further feature, a sum by hand of what the ranker's attention learns
to weigh. Nothing was chosen on the test: L2 is tuned here on the newest tenth of what is fitted, the ranker's settings
say where they are from. Users without a rating before the cut are new.
"""

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import movielens
import numpy as np
from numpy.typing import NDArray
from ranking_models import SETTINGS, calibrated, logistic_regression, ranker, tuned, with_neighbours
from ranking_split import Split, split
from ranking_statistics import LARGEST_BIAS, LARGEST_ERROR, difference, figures, is_calibrated, losses

from models.pointwise_data import PointwiseData, pointwise_data
from streaming.movielens import load_movielens_100k

KEY = "ranking_ml100k"
missing = movielens.missing
LIKED_FROM = 4.0
RANKER, BASELINE = "ranker", "logistic regression"
NEIGHBOURS, REFITTED = f"{BASELINE} with neighbours", ", refit up to the cut"

Floats = NDArray[np.float64]
Save = Callable[[dict[str, Any]], None]


def run(options: Namespace, save: Save) -> dict[str, Any]:
    """Fit, calibrate and test every model, then compare; `save` gets what is known after each of them."""
    started = time.perf_counter()
    data = pointwise_data(load_movielens_100k(), LIKED_FROM, SETTINGS.attended_items, SETTINGS.buckets)
    parts = split(len(data.acts.labels))
    test = _Test(data, parts)
    report: dict[str, Any] = {"data": test.description, "settings": SETTINGS.model_dump(), "models": {}}
    predicted: dict[str, list[Floats]] = {}

    def add(name: str, probabilities: Floats, row: dict[str, Any]) -> None:
        predicted.setdefault(name, []).append(probabilities[parts.test])
        rows = report["models"].setdefault(name, {"seeds": []})["seeds"]
        rows.append(row | test.figures(probabilities[parts.test]))
        report["models"][name]["mean"] = {key: float(np.mean([row["test"][key] for row in rows])) for key in _MEANS}
        save(report)

    add("rate of the last 2,000", _rate(data), {})
    for name, known in ((BASELINE, data), (NEIGHBOURS, with_neighbours(data))):
        strengths, tried = tuned(known, parts)
        chosen = {"chosen": asdict(strengths), "tried": tried}
        logits = logistic_regression(known, parts.fitted, strengths)
        probabilities, calibrator = calibrated(known, logits, parts.calibrated)
        add(name, probabilities, chosen | {"calibrator": _plain(calibrator)})
        add(f"{name}{REFITTED}", _sigmoid(logistic_regression(known, parts.trained, strengths)), chosen)
    for seed in range(1, 1 + options.seeds):  # named in advance: 1, 2, 3 …
        before = time.perf_counter()
        probabilities, calibrator = calibrated(data, ranker(data, parts.fitted, seed, options.quick), parts.calibrated)
        row = {"seed": seed, "calibrator": _plain(calibrator), "seconds": time.perf_counter() - before}
        add(RANKER, probabilities, row)
    report["comparisons"] = test.comparisons(predicted) if RANKER in predicted else {}
    report["failed"] = [] if options.quick else _failures(report)
    report["seconds"] = time.perf_counter() - started
    return report


_MEANS = ("log_loss", "auc", "ece10", "bias")


class _Test:
    """The rows after the cut, all and by whether their user was there before."""

    def __init__(self, data: PointwiseData, parts: Split) -> None:
        self._users, self._labels = data.acts.users[parts.test], data.acts.labels[parts.test]
        known = np.isin(self._users, data.acts.users[parts.trained])
        self._slices = {"test": np.ones_like(known), "known_users": known, "new_users": ~known}
        self.description = {
            "label": "rating of 4 or 5",
            "fitted": len(parts.fitted),
            "calibrated": len(parts.calibrated),
            "rows": {name: int(rows.sum()) for name, rows in self._slices.items()},
            "users": {name: len(set(self._users[rows].tolist())) for name, rows in self._slices.items()},
            "features": list(data.features.names),
        }

    def figures(self, probabilities: Floats) -> dict[str, Any]:
        return {name: figures(probabilities[rows], self._labels[rows]) for name, rows in self._slices.items()}

    def comparisons(self, predicted: dict[str, list[Floats]]) -> dict[str, Any]:
        """Return the ranker's log loss less each baseline's, by slice."""
        mean = {
            name: np.mean([losses(seed, self._labels) for seed in seeds], axis=0) for name, seeds in predicted.items()
        }
        return {
            name: {
                where: difference(mean[RANKER][rows], mean[name][rows], self._users[rows])
                for where, rows in self._slices.items()
            }
            for name in predicted
            if name != RANKER
        }


def _failures(report: dict[str, Any]) -> list[str]:
    """Return what failed: the ranker not below a baseline for certain, or not calibrated with some seed."""
    failed = [f"log loss against {name}" for name, row in report["comparisons"].items() if row["test"]["high"] >= 0]
    seeds = report["models"].get(RANKER, {}).get("seeds", [])
    bounds = f"error below {LARGEST_ERROR}, bias within {LARGEST_BIAS}"
    return failed + [f"calibration of seed {row['seed']} ({bounds})" for row in seeds if not is_calibrated(row["test"])]


def _rate(data: PointwiseData) -> Floats:
    return _sigmoid(data.features.dense[:, data.features.names.index("rate_recent")].astype(np.float64))


def _sigmoid(logits: Floats) -> Floats:
    probabilities: Floats = np.exp(-np.logaddexp(0.0, -logits))
    return probabilities


def _plain(calibrator: Any) -> dict[str, float]:
    return {"scale": calibrator.scale, "shift": calibrator.shift}
