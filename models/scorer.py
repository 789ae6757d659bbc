"""The served models: retrieval, co-visits, similar items and the ranker. Numpy, onnxruntime and faiss; no torch.

A scorer is made for one thread: items may be added between calls, not during one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from features.history import History
from features.popularity import PopularityWindow
from models.artifact import Artifact, CorruptArtifact
from models.combining import UnknownTask, combined
from models.content import ItemContent, content_vectors
from models.drivers import nearest, strongest_voters
from models.neighbours import NEIGHBOURS, unstacked
from models.ranking_features import (
    ALIKE,
    NEIGHBOUR_TABLES,
    WIDE,
    PopularityCounts,
    Recent,
    Shortlist,
    Sources,
    UserValues,
    dense_features,
    feature_names,
    popularity_counts,
)
from models.served import Events, ServedRanker, ServedRetrieval, Shown
from models.spec import ModelSpec
from models.tables import GrowingTable
from models.vocabulary import ItemRow, Vocabulary
from streaming.events import Kind
from streaming.ids import ItemId

__all__ = ["Candidates", "CorruptArtifact", "ItemContent", "Query", "Scorer", "UnknownTask"]

Rows = NDArray[np.int64]
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Query:
    """For whom is scored: the history (newest last), the store's features by name, and the time, ms."""

    history: History
    user_features: Mapping[str, float | str]
    as_of: int


@dataclass(frozen=True)
class Candidates:
    """Distinct rows, int64[n], best first, and their scores, float32[n]."""

    rows: Rows
    scores: Vector


@dataclass(frozen=True)
class _Reading:
    """What a query's history comes to: the sequence model's vector, None without a history, and its known rows."""

    query: Query
    user: Vector | None
    recent: Recent


CLICK_ALONE: Mapping[str, float] = MappingProxyType({})
NOTHING = Candidates(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))


class Scorer:
    """One loaded model. Its rows: the items it was trained on, then those added since, in the order of coming."""

    def __init__(self, artifact: Artifact) -> None:
        self.version = artifact.version
        self.spec: ModelSpec = artifact.spec
        self.trained_until = artifact.spec.trained_until
        self._vocabulary = Vocabulary(artifact.item_ids)
        self._retrieval = ServedRetrieval(artifact)
        self._ranking = ServedRanker(artifact)
        tables = unstacked(artifact.row_file(NEIGHBOURS, np.int32), len(NEIGHBOUR_TABLES))
        neighbours = dict(zip(NEIGHBOUR_TABLES, tables, strict=True))
        self._sources = Sources(self.spec.content, GrowingTable(artifact.floats("item_content")), neighbours)
        self._kinds = {kind: code for code, kind in enumerate(self.spec.retrieval.kinds)}
        self._negative = np.array([Kind(kind).is_negative for kind in self._kinds])
        self._last: _Reading | None = None

    @classmethod
    def load(cls, directory: Path) -> "Scorer":
        """Load an artifact; raises CorruptArtifact when it is damaged or does not fit this code."""
        return cls.of(Artifact.open(directory))

    @classmethod
    def of(cls, artifact: Artifact) -> "Scorer":
        """Load an artifact that was opened; raises CorruptArtifact when it does not fit this code."""
        expected = feature_names(artifact.spec.content)
        if artifact.spec.ranking.features != expected:
            raise CorruptArtifact(f"model {artifact.version} has other ranker inputs than this code: train it again")
        return cls(artifact)

    @property
    def conversions(self) -> tuple[str, ...]:
        """The names of the tasks beside the choice."""
        return tuple(task.name for task in self.spec.ranking.conversions)

    @property
    def size(self) -> int:
        """The number of rows."""
        return len(self._vocabulary)

    def row(self, item_id: ItemId) -> ItemRow | None:
        """Return an item's row, None for an item that is neither trained nor added."""
        return self._vocabulary.row(item_id)

    def item_id(self, row: ItemRow) -> ItemId:
        """Return the item of a row; raises IndexError when there is none."""
        return self._vocabulary.item_id(row)

    def add_item(self, item: ItemContent) -> ItemRow:
        """Return the row of an item; one that the model was not trained on gets vectors by its content, and a row."""
        row = self._vocabulary.row(item.item_id)
        if row is not None and row < len(self._sources.content.trained):
            return row
        row = self._vocabulary.add(item.item_id)
        content = content_vectors(self.spec.content, [item])[0]
        self._sources.content.put(row, content)
        self._retrieval.vectors.put(row, self._retrieval.cold_vector(item.item_id, content))
        self._ranking.put(row, item)
        self._last = None
        return row

    def retrieve(self, query: Query, k: int) -> Candidates:
        """Return the `k` items whose vectors fit the history best; nothing for an empty history."""
        user = self._read(query).user
        if user is None:
            return NOTHING
        return Candidates(*self._retrieval.index.search(user, k))

    def co_visited(self, query: Query, k: int) -> Candidates:
        """Return up to `k` items that others went on to after the last 20 of the history."""
        history = self._latest(query)
        return Candidates(*self._sources.neighbours[WIDE].votes(history, _fading(history)).best(k))

    def came_before(self, query: Query, rows: Rows) -> list[ItemId | None]:
        """Return for each of `rows` the item of the history that `co_visited` finds it by most, None if by none."""
        history = self._latest(query)
        voters = strongest_voters(self._sources.neighbours[WIDE], history, _fading(history), rows)
        return [None if voter < 0 else self.item_id(ItemRow(voter)) for voter in voters.tolist()]

    def most_alike(self, query: Query, rows: Rows) -> list[ItemId | None]:
        """Return for each of `rows` the nearest (cosine) of the last 20 items of the history, None without any."""
        history = self._latest(query)
        if len(history) == 0:
            return [None] * len(rows)
        vectors = self._retrieval.vectors
        places = nearest(vectors.take(history)[:, :-1], vectors.take(rows)[:, :-1])
        return [self.item_id(ItemRow(row)) for row in history[places].tolist()]

    def similar(self, row: ItemRow, k: int) -> Candidates:
        """Return up to `k` other items: those used by the same users, then those nearest by vector (cosine)."""
        alone = np.array([row], dtype=np.int64)
        used, strength = self._sources.neighbours[ALIKE].votes(alone, np.ones(1, dtype=np.float32)).best(k)
        near, nearness = self._retrieval.nearest(row, k + 1)
        fresh = ~np.isin(near, np.append(used, row))
        # Below every co-used item, whatever the cosine.
        rows = np.concatenate((used, near[fresh]))[:k]
        return Candidates(rows, np.concatenate((1.0 + strength, nearness[fresh])).astype(np.float32)[:k])

    def item_vectors(self, rows: Rows) -> NDArray[np.float32]:
        """Return float32 [n, dim]: the vectors of `rows`, int64[n], without bias."""
        return self._retrieval.vectors.take(rows)[:, :-1]

    def rank(
        self, query: Query, rows: Rows, popularity: PopularityWindow, weights: Mapping[str, float] = CLICK_ALONE
    ) -> Vector:
        """Return a score for each of `rows`, int64[n]; higher is better, and scores of two calls do not compare.

        `weights` of the `conversions` are those of `models.combining.combined`; raises UnknownTask for any other.
        Without a history the score is the count of the last 30 days: there is nothing else to go by.
        """
        if len(rows) == 0:
            return NOTHING.scores
        counts = popularity_counts(popularity, query.as_of, len(self._vocabulary))
        read = self._read(query)
        if read.user is None:
            return counts.by_days[30][rows].astype(np.float32)
        return combined(self._logits(read, read.user, rows, counts), self.spec.ranking.conversions, weights)

    def probabilities(self, query: Query, rows: Rows, popularity: PopularityWindow) -> dict[str, Vector]:
        """Return float32[n] for each of the `conversions`: its probability for a user who chooses the item.

        Empty for a user without a history.
        """
        read = self._read(query)
        if len(rows) == 0 or read.user is None:
            return {}
        counts = popularity_counts(popularity, query.as_of, len(self._vocabulary))
        logits = self._logits(read, read.user, rows, counts)
        return {
            task.name: task.calibrator.apply(logits[:, number]).astype(np.float32)
            for number, task in enumerate(self.spec.ranking.conversions, start=1)
        }

    def inputs(self, query: Query, rows: Rows, popularity: PopularityWindow) -> NDArray[np.float32] | None:
        """Return the numbers that the ranker reads of each of `rows`, float32 [n, features] in the spec's order.

        None for a user without a history, for whom the ranker is not asked.
        """
        read = self._read(query)
        if read.user is None:
            return None
        counts = popularity_counts(popularity, query.as_of, len(self._vocabulary))
        items = self._shortlist(rows, self._retrieval.vectors.take(rows) @ read.user)
        return dense_features(self._sources, read.recent, UserValues.of(query.user_features), items, counts)

    def _shortlist(self, rows: Rows, sequence: Vector) -> Shortlist:
        return Shortlist(
            rows, self._ranking.interactions_total.take(rows), self._ranking.mean_value.take(rows), sequence
        )

    def _logits(self, read: _Reading, user: Vector, rows: Rows, counts: PopularityCounts) -> NDArray[np.float32]:
        """Return float32 [n, 1 + conversions]."""
        vectors = self._retrieval.vectors.take(rows)
        items = self._shortlist(rows, vectors @ user)
        features = read.query.user_features
        dense = dense_features(self._sources, read.recent, UserValues.of(features), items, counts)
        history = self._retrieval.vectors.take(read.recent.newest(self.spec.ranking.network.places))
        return self._ranking.logits(Shown(dense, rows, vectors, history), features)

    def _latest(self, query: Query) -> Rows:
        """Return the last 20 known items of the history, newest first."""
        return self._read(query).recent.rows[:-21:-1]

    def _read(self, query: Query) -> _Reading:
        """Return what the query's history comes to; one request asks several times with the same object."""
        if self._last is None or self._last.query is not query:
            events = self._events(query.history)
            self._last = _Reading(query, self._user_vector(events, query.as_of), self._recent(events, query.as_of))
        return self._last

    def _events(self, history: History) -> Events:
        events = history.events[-max(self.spec.retrieval.length, self.spec.ranking.history_length) :]
        item_ids = [event.item_id for event in events]
        return Events(
            item_ids=item_ids,
            rows=self._vocabulary.rows(item_ids),
            kinds=np.array([self._kinds[event.kind] for event in events], dtype=np.int64),
            times=np.array([event.happened_at for event in events], dtype=np.int64),
        )

    def _user_vector(self, events: Events, as_of: int) -> Vector | None:
        read = events.newest(self.spec.retrieval.length)
        return self._retrieval.user_vector(read, as_of) if len(read.rows) else None

    def _recent(self, events: Events, as_of: int) -> Recent:
        read = events.newest(self.spec.ranking.history_length)
        gap_s = (as_of - int(read.times[-1])) / 1000 if len(read.times) else 0.0
        return Recent(read.rows[(read.rows >= 0) & ~self._negative[read.kinds]], len(read.rows), gap_s)


def _fading(history: Rows) -> Vector:
    """Return what each item of a history, newest first, weighs: its place from 1, inverted."""
    return (1 / np.arange(1, len(history) + 1)).astype(np.float32)
