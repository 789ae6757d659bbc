"""From a conversion's logits to probabilities, fitted on the newest labels, which the ranker was not trained on."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import Floats, error_by_chance, expected_calibration_error, fit_calibrator
from models.gate import CALIBRATION_ERROR
from models.ranking import TrainedRanker
from models.ranking_dataset import RankingData
from models.spec import TaskSpec

_QUERIES_AT_ONCE = 256
_LEAST_LABELS = 300  # the gate is not asked with fewer: it would often find a model wrong that is right


@dataclass(frozen=True)
class Calibrated:
    """The conversions with their calibrators, and how well calibrated they were found to be, by name of a metric."""

    tasks: tuple[TaskSpec, ...]
    metrics: dict[str, float]


def calibrated(ranker: TrainedRanker, data: RankingData, buckets: int, seed: int) -> Calibrated:
    """Calibrate the conversions of a ranker that was trained on `data` with hashed tables of so many `buckets`.

    `seed` is that of what chance alone would show.
    """
    conversions = data.conversions
    calibrates: NDArray[np.bool_] = np.any(conversions.held_out, axis=(1, 2))
    held_out = data.fresh[calibrates[data.group[data.fresh]]]
    groups = data.group[held_out]
    logits = _conversion_logits(ranker, data, held_out, buckets)
    tasks, metrics, beyond = [], dict[str, float](), list[float]()
    for number, name in enumerate(conversions.names):
        used = conversions.held_out[groups][..., number]
        labels = conversions.labels[groups][..., number][used]
        own = logits[..., number][used]
        tasks.append(TaskSpec(name, fit_calibrator(own, labels)))
        if len(labels) > 1:
            probabilities = _by_the_other_half(own, labels)
            error = expected_calibration_error(probabilities, labels)
            chance = error_by_chance(probabilities, seed)
            metrics |= {f"{name}_calibration_error": error, f"{name}_calibration_error_by_chance": chance}
            metrics |= {f"{name}_calibration_labels": len(labels)}
            if len(labels) >= _LEAST_LABELS:
                beyond.append(max(0.0, error - chance))
    return Calibrated(tuple(tasks), metrics | ({CALIBRATION_ERROR: max(beyond)} if beyond else {}))


def _by_the_other_half(logits: NDArray[np.float32], labels: NDArray[np.bool_]) -> Floats:
    """Return each label's probability by a calibrator of the other half of them, the older or the newer one."""
    half = len(labels) // 2
    older = fit_calibrator(logits[half:], labels[half:]).apply(logits[:half])
    return np.concatenate((older, fit_calibrator(logits[:half], labels[:half]).apply(logits[half:])))


def _conversion_logits(
    ranker: TrainedRanker, data: RankingData, queries: NDArray[np.int64], buckets: int
) -> NDArray[np.float32]:
    """Return float32 [queries, candidates, tasks]."""
    bags = data.groups.user_buckets(buckets)
    parts = [np.zeros((0, data.groups.rows.shape[1], len(data.conversions.names)), dtype=np.float32)]
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        some = queries[start : start + _QUERIES_AT_ONCE]
        groups, recent = data.group[some], torch.from_numpy(data.recent[some])
        rows, vectors = torch.from_numpy(data.groups.rows[groups]), torch.from_numpy(data.vectors)
        embeddings = ranker.embeddings(rows, [bags[group] for group in groups])
        with torch.no_grad():
            logits = ranker.model(
                torch.from_numpy(data.dense[some]), embeddings, vectors[rows], vectors[recent], recent >= 0
            )
        parts.append(logits[..., 1:].numpy())
    return np.concatenate(parts)
