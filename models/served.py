"""The two networks as they are served, each with the tables around it. Numpy, onnxruntime and faiss; no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_errors

from models.artifact import INDEX, RANKER, USER_TOWER, Artifact, CorruptArtifact
from models.content import ItemContent
from models.index import VectorIndex
from models.inputs import category_buckets, gap_buckets, shared_row, user_buckets
from models.tables import GrowingTable
from models.top import best
from models.vocabulary import ItemRow
from streaming.errors import FlywheelError
from streaming.ids import ItemId

Rows = NDArray[np.int64]
Vector = NDArray[np.float32]

_RUN_ERRORS = (
    onnx_errors.Fail,
    onnx_errors.EPFail,
    onnx_errors.InvalidArgument,
    onnx_errors.NotImplemented,
    onnx_errors.RuntimeException,
)
_ONNX_ERRORS = (
    onnx_errors.InvalidProtobuf,
    onnx_errors.InvalidGraph,
    onnx_errors.InvalidArgument,
    onnx_errors.NotImplemented,
    onnx_errors.Fail,
)


@dataclass(frozen=True)
class Events:
    """A history's events in order, newest last: `rows` int64[n], -1 for an unknown item, `kinds` int64[n] as the
    model's spec counts them, `times` int64[n] in ms.
    """

    item_ids: Sequence[ItemId]
    rows: Rows
    kinds: Rows
    times: Rows

    def newest(self, length: int) -> "Events":
        """Return the last `length` of them."""
        return Events(self.item_ids[-length:], self.rows[-length:], self.kinds[-length:], self.times[-length:])


class ServedRetrieval:
    """The user tower with the tables around it."""

    def __init__(self, artifact: Artifact) -> None:
        self.vectors = GrowingTable(artifact.floats("item_vectors"))
        self.index = VectorIndex(artifact.file(INDEX), self.vectors)
        self._shared = artifact.floats("shared_vectors")
        self._projection = artifact.floats("content_projection")
        self._gaps = artifact.floats("gap_vectors")
        self._kinds = artifact.floats("kind_vectors")
        self._scale = np.float32(artifact.spec.retrieval.input_scale)
        self._tower = _session(artifact.file(USER_TOWER), USER_TOWER)
        self._norms: Vector | None = None  # of the trained items, once they are asked for

    def cold_vector(self, item_id: ItemId, content: Vector) -> Vector:
        """Return the vector of an item that the model was not trained on."""
        vector: Vector = self._shared[shared_row(item_id, len(self._shared))] + content @ self._projection
        return vector

    def user_vector(self, events: Events, as_of: int) -> Vector:
        """Return float32[dim] for a history that is not empty."""
        inputs = self.vectors.take(np.maximum(events.rows, 0))
        for place in np.flatnonzero(events.rows < 0).tolist():
            inputs[place] = self._shared[shared_row(events.item_ids[place], len(self._shared))]
        inputs = inputs * self._scale + self._gaps[gap_buckets(events.times, as_of)]
        inputs += self._kinds[events.kinds]
        last = np.array([len(inputs) - 1], dtype=np.int64)
        vectors = self._tower.run(None, {"history": inputs[None], "last": last})[0]
        vector: Vector = vectors[0]
        return vector

    def nearest(self, row: ItemRow, k: int) -> tuple[Rows, Vector]:
        """Return the `k` nearest rows by the cosine of the vectors without bias, and the cosines."""
        if self._norms is None:
            self._norms = _norms(self.vectors.trained)
        norms = np.concatenate((self._norms, _norms(self.vectors.added)))
        direction = self.vectors.take(np.array([row]))[0]
        direction[-1] = 0.0
        products = np.concatenate((self.vectors.trained @ direction, self.vectors.added @ direction))
        cosines = products / (norms * norms[row])
        order = best(cosines, k)
        return order, cosines[order]


@dataclass(frozen=True)
class Shown:
    """The candidates of one query as the ranker reads them: `dense` float32 [n, features], `rows` int64 [n].

    `vectors`, float32 [n, dim], are the candidates' item vectors and `history`, float32 [events, dim], those of the
    newest items of the history, newest first, at most as many as the network has places.
    """

    dense: NDArray[np.float32]
    rows: Rows
    vectors: NDArray[np.float32]
    history: NDArray[np.float32]


class RankerFailed(FlywheelError):
    """The ranker's session raised an error."""


class ServedRanker:
    """The ranker with the tables around it."""

    def __init__(self, artifact: Artifact) -> None:
        self._spec = artifact.spec.ranking
        self.interactions_total = GrowingTable(artifact.floats("item_interactions_total"))
        self.mean_value = GrowingTable(artifact.floats("item_mean_value"))
        self._items = GrowingTable(artifact.floats("ranker_items"))
        self._categories = artifact.floats("ranker_categories")
        self._users = artifact.floats("ranker_users")
        self._ranker = _session(artifact.file(RANKER), RANKER)

    def put(self, row: ItemRow, item: ItemContent) -> None:
        """Set what is known of an item that the model was not trained on."""
        categories = _bag(self._categories, category_buckets(item.categories, self._spec.buckets))
        self._items.put(row, np.concatenate((np.zeros(self._spec.embedding_dim, dtype=np.float32), categories)))
        self.interactions_total.put(row, 0.0)
        self.mean_value.put(row, self._spec.mean_value)

    def logits(self, shown: Shown, user_features: Mapping[str, float | str]) -> NDArray[np.float32]:
        """Return float32 [n, 1 + conversions]: the logits of the choice and of each conversion; raises RankerFailed."""
        user = _bag(self._users, user_buckets(user_features, self._spec.buckets))
        embeddings = np.hstack((self._items.take(shown.rows), np.tile(user, (len(shown.rows), 1))))
        inputs: dict[str, NDArray[np.generic]] = {"dense": shown.dense[None], "embeddings": embeddings[None]}
        places = self._spec.network.places
        if places:
            history = np.zeros((places, shown.vectors.shape[1]), dtype=np.float32)
            history[: len(shown.history)] = shown.history
            inputs |= {
                "items": shown.vectors[None],
                "history": history[None],
                "present": (np.arange(places) < len(shown.history))[None],
            }
        try:
            logits: NDArray[np.float32] = self._ranker.run(None, inputs)[0][0]
        except _RUN_ERRORS as error:
            raise RankerFailed(f"the ranker fails: {error}") from error
        return logits


def _norms(vectors: NDArray[np.float32]) -> Vector:
    """Return the lengths of vectors without their bias, never 0."""
    norms: Vector = np.maximum(np.linalg.norm(vectors[:, :-1], axis=1), np.float32(1e-9))
    return norms


def _bag(table: NDArray[np.float32], rows: list[int]) -> Vector:
    total: Vector = table[rows].sum(axis=0, dtype=np.float32)
    return total


def _session(model: bytes, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except _ONNX_ERRORS as error:
        raise CorruptArtifact(f"model file {name!r} is no ONNX model: {error}") from error
