"""From a conversion's logits to probabilities, fitted on the newest labels, which the ranker was not trained on."""

import numpy as np
import torch
from numpy.typing import NDArray

from models.calibration import fit_calibrator
from models.ranking import TrainedRanker
from models.ranking_dataset import RankingData
from models.spec import TaskSpec

_QUERIES_AT_ONCE = 256


def calibrated(ranker: TrainedRanker, data: RankingData, buckets: int) -> tuple[TaskSpec, ...]:
    """Return the conversions of a ranker that was trained on `data` with hashed tables of so many `buckets`."""
    conversions = data.conversions
    calibrates: NDArray[np.bool_] = np.any(conversions.held_out, axis=(1, 2))
    held_out = data.fresh[calibrates[data.group[data.fresh]]]
    groups = data.group[held_out]
    logits = _conversion_logits(ranker, data, held_out, buckets)
    tasks = []
    for number, name in enumerate(conversions.names):
        used = conversions.held_out[groups][..., number]
        labels = conversions.labels[groups][..., number][used]
        tasks.append(TaskSpec(name, fit_calibrator(logits[..., number][used], labels)))
    return tuple(tasks)


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
