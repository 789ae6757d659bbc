"""From trained models to an artifact: the networks as ONNX, everything else as tables."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from models.artifact import INDEX, RANKER, USER_TOWER, WEIGHTS, Parts
from models.content import content_vectors
from models.dataset import TrainingData
from models.index import build_index
from models.inputs import gap_buckets
from models.neighbours import NEIGHBOURS, FittedNeighbours, stacked
from models.ranking import TrainedRanker
from models.ranking_features import NEIGHBOUR_TABLES
from models.spec import ModelSpec
from models.start import Start, start_files
from models.trained_retrieval import Read, TrainedRetrieval

_OPSET = 17
_QUERIES = 500  # that the index is held against


@dataclass(frozen=True)
class Fitted:
    """Everything that training found, in memory; `start` is for a retraining, `metrics` are by name."""

    spec: ModelSpec
    neighbours: Mapping[str, FittedNeighbours]
    retrieval: TrainedRetrieval
    start: Start
    ranker: TrainedRanker
    metrics: Mapping[str, float]


def artifact_parts(fitted: Fitted, data: TrainingData) -> Parts:
    """Return what an artifact is made of."""
    retrieval, ranker = fitted.retrieval, fitted.ranker
    model = retrieval.model
    vectors = _array(retrieval.vectors[: len(data.items)])
    arrays: dict[str, NDArray[np.generic]] = {
        "item_vectors": vectors,
        NEIGHBOURS: stacked([fitted.neighbours[name] for name in NEIGHBOUR_TABLES]),
        "shared_vectors": _array(retrieval.vectors[len(data.items) :]),
        "content_projection": _array(model.content.weight.T),
        "kind_vectors": _array(model.inputs.kinds.weight),
        "gap_vectors": _array(model.inputs.gaps.weight),
        "item_content": content_vectors(fitted.spec.content, data.items),
        "item_interactions_total": data.item_features.interactions_total,
        "item_mean_value": data.item_features.mean_value,
        "ranker_items": _array(ranker.items),
        "ranker_categories": _array(ranker.categories),
        "ranker_users": _array(ranker.users),
    }
    index = build_index(vectors, last_user_vectors(retrieval, data))
    weights = {
        "retrieval.items": retrieval.table,
        **{f"retrieval.{name}": value for name, value in model.state_dict().items()},
        **{f"ranker.{name}": value for name, value in ranker.model.state_dict().items()},
        "position.bias": ranker.positions,
    }
    return Parts(
        spec=fitted.spec,
        item_ids=[item.item_id for item in data.items],
        metrics={**fitted.metrics, "index_recall_200": index.recall},
        files={
            **start_files(fitted.start),
            WEIGHTS: save({name: value.contiguous() for name, value in weights.items()}),
            USER_TOWER: user_tower_onnx(retrieval),
            RANKER: ranker_onnx(ranker),
            INDEX: index.data,
        },
        arrays=arrays,
    )


def last_user_vectors(retrieval: TrainedRetrieval, data: TrainingData) -> NDArray[np.float32]:
    """Return float32 [users, dim]: where some hundreds of users, spread over all, stand at the end of the data."""
    log = data.log
    users = np.flatnonzero(np.diff(log.starts))
    asked = users[np.linspace(0, len(users) - 1, min(_QUERIES, len(users)), dtype=np.int64)]
    parts = [log.history(user, data.until, retrieval.length) for user in asked.tolist()]
    return retrieval.vectors_of(
        [Read(log.rows[part], log.kinds[part], gap_buckets(log.times[part], data.until)) for part in parts]
    )


def user_tower_onnx(retrieval: TrainedRetrieval) -> bytes:
    """Return the user tower: (history float [batch, length, dim], last int64 [batch]) → vector float [batch, dim]."""
    history = torch.zeros(2, 3, retrieval.vectors.shape[1])
    last = torch.tensor([2, 1])
    axes = {"history": {0: "batch", 1: "length"}, "last": {0: "batch"}, "vector": {0: "batch"}}
    return _onnx(retrieval.model.tower, (history, last), ["history", "last"], ["vector"], axes)


def ranker_onnx(ranker: TrainedRanker) -> bytes:
    """Return the ranker: the inputs of `RankingModel.forward` by name → logits; queries and candidates vary in number.

    Without target attention there are `dense` and `embeddings` alone.
    """
    spec = ranker.spec
    inputs = {"dense": torch.zeros(2, 3, spec.features), "embeddings": torch.zeros(2, 3, spec.embeddings)}
    axes = {name: {0: "queries", 1: "candidates"} for name in (*inputs, "logits")}
    if spec.places:
        inputs["items"] = torch.zeros(2, 3, spec.vectors)
        inputs["history"] = torch.zeros(2, spec.places, spec.vectors)
        inputs["present"] = torch.ones(2, spec.places, dtype=torch.bool)
        axes |= {"items": axes["dense"], "history": {0: "queries"}, "present": {0: "queries"}}
    return _onnx(ranker.model, tuple(inputs.values()), list(inputs), ["logits"], axes)


def _onnx(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> bytes:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        # The tracing exporter is deprecated, but takes 0.1 s where the newer one takes 7 s for the same graph.
        warnings.simplefilter("ignore")
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            example,
            path,
            input_names=inputs,
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def _array(tensor: Tensor) -> NDArray[np.float32]:
    values: NDArray[np.float32] = tensor.detach().cpu().numpy().astype(np.float32)
    return np.ascontiguousarray(values)
