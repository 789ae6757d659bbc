"""The models of the ranking suite; each returns logits of all rows, fitted on some of them."""

from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ranking_split import Rows, Split

from models.calibration import Calibrator, fit_calibrator
from models.config import RankingSettings
from models.logistic_regression import LogisticRegression, Strengths
from models.pointwise_data import PointwiseData

Floats = NDArray[np.float64]

# Chosen on the training events alone: fitted on the first 72 % and 81 % of all events, asked on the 9 % after each.
SETTINGS = RankingSettings(
    attended_items=100,
    attention_dim=16,
    hidden=32,
    epochs=6,
    batch_size=512,
    learning_rate=3e-3,
    embedding_learning_rate=1e-5,  # a larger one learns the acts by heart
    weight_decay=0.05,
)
_SHRUNK = 3.0  # users in common that a cosine is shrunk by
_STRENGTHS = tuple(Strengths(dense, ids) for dense, ids in product((0.1, 1.0, 10.0), (100.0, 300.0, 1_000.0, 3_000.0)))


def tuned(data: PointwiseData, parts: Split) -> tuple[Strengths, list[dict[str, Any]]]:
    """Return the L2 strengths of the least log loss on validation, and what each reached."""
    tried = []
    for strengths in _STRENGTHS:
        model = LogisticRegression(data, parts.before_chosen, strengths, SETTINGS.buckets)
        loss = float(log_losses(model.logits(data, parts.chosen), data.acts.labels[parts.chosen]).mean())
        tried.append(asdict(strengths) | {"validation_log_loss": loss})
    best = min(range(len(tried)), key=lambda place: tried[place]["validation_log_loss"])
    return _STRENGTHS[best], tried


def logistic_regression(data: PointwiseData, fitted: Rows, strengths: Strengths) -> Floats:
    """Return logits of all rows."""
    rows = np.arange(len(data.acts.labels))
    return LogisticRegression(data, fitted, strengths, SETTINGS.buckets).logits(data, rows)


def with_neighbours(data: PointwiseData) -> PointwiseData:
    """Return the data with one dense feature more: the user's surprises weighed by how alike the items are, by hand."""
    history, common = data.pairs.history, data.pairs.common
    surprises = np.where(history >= 0, data.features.surprises[history], 0.0)
    likeness = data.pairs.cosines * common / (common + _SHRUNK)
    mean = (likeness * surprises).sum(axis=1) / (np.abs(likeness).sum(axis=1) + 0.5)
    dense = np.column_stack((data.features.dense, mean)).astype(np.float32)
    names = (*data.features.names, "neighbours")
    return replace(data, features=replace(data.features, names=names, dense=dense))


def ranker(data: PointwiseData, fitted: Rows, seed: int, quick: bool) -> Floats:
    """Return logits of all rows."""
    from models.pointwise_training import train_pointwise  # noqa: PLC0415 - torchrec is slow to import
    from models.sharding import limited_threads, process_group  # noqa: PLC0415

    settings = SETTINGS.model_copy(update={"epochs": 1}) if quick else SETTINGS
    with process_group(), limited_threads(1):
        trained = train_pointwise(settings, data, fitted, seed, lambda _step: None)
    return trained.logits(data, np.arange(len(data.acts.labels)))


def calibrated(data: PointwiseData, logits: Floats, rows: Rows) -> tuple[Floats, Calibrator]:
    """Return probabilities of all rows, calibrated on `rows`."""
    calibrator = fit_calibrator(logits[rows], data.acts.labels[rows])
    return calibrator.apply(logits), calibrator


def log_losses(logits: Floats, labels: Floats) -> Floats:
    """Return the log loss of each row, nats."""
    losses: Floats = np.logaddexp(0.0, logits) - labels * logits
    return losses
