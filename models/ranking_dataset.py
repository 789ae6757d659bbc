"""The ranker's training inputs: every group's features as of its time, by the very function that the server calls."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.popularity import PopularityWindow
from models.config import ModelSettings
from models.content import content_vectors
from models.conversions import Conversions, conversions_of
from models.dataset import NotEnoughData, TrainingData
from models.groups import Groups
from models.inputs import gap_buckets
from models.log import Log
from models.neighbours import FittedNeighbours
from models.ranking_features import (
    PopularityCounts,
    Recent,
    Shortlist,
    Sources,
    dense_features,
    feature_names,
    popularity_counts,
)
from models.spec import ContentSpec
from models.tables import GrowingTable
from models.trained_retrieval import Read, TrainedRetrieval

_HOUR_MS, _MONTH_MS = 3_600_000, 30 * 86_400_000


@dataclass(frozen=True)
class FirstStage:
    """What the ranker's features are computed from, fitted on what came before the groups."""

    content: ContentSpec
    neighbours: dict[str, FittedNeighbours]
    retrieval: TrainedRetrieval


@dataclass(frozen=True)
class RankingData:
    """`dense` is float32 [queries, candidates, features], `group` int64 [queries] the index of each query's group.

    `recent`, int64 [queries, places], holds the rows that target attention reads, newest first, -1 where there are
    none. `vectors` and `cold` are float32 [items, dim]: the items' vectors, and those by content alone.
    """

    groups: Groups
    conversions: Conversions
    dense: NDArray[np.float32]
    group: NDArray[np.int64]
    recent: NDArray[np.int64]
    vectors: NDArray[np.float32]
    cold: NDArray[np.float32]

    @property
    def fresh(self) -> NDArray[np.int64]:
        """The first query of each group that has one, whose history is that of the group's time."""
        first: NDArray[np.int64] = np.unique(self.group, return_index=True)[1]
        return first


@dataclass(frozen=True)
class _Ask:
    """One query: a group and where the history that it may see lies in the log."""

    group: int
    history: slice


def ranking_data(data: TrainingData, stage: FirstStage, settings: ModelSettings) -> RankingData:
    """Return the features of all groups whose users have a history.

    A share `ranking.stale_share` of the groups comes once more with a history that ends earlier, by an hour to a
    month: at serving, too, users come back after a while. Raises NotEnoughData when no user has a history.
    """
    asks = list(_asks(data, settings))
    if not asks:
        raise NotEnoughData("no labelled example is of a user with a history: land more events before training")
    users = stage.retrieval.vectors_of([_read(data, ask, stage.retrieval.length) for ask in asks])
    popularity = _Popularity(data.log, len(data.items))
    content = content_vectors(stage.content, data.items)
    sources = Sources(stage.content, GrowingTable(content), stage.neighbours)
    shape = (len(asks), data.groups.rows.shape[1], len(feature_names(stage.content)))
    dense = np.zeros(shape, dtype=np.float32)
    attended = np.full((len(asks), settings.ranking.attended_items), -1)
    vectors = stage.retrieval.vectors.numpy()
    for features, newest, ask, user in zip(dense, attended, asks, users, strict=True):
        groups, present = data.groups, data.groups.present[ask.group]
        time = int(groups.times[ask.group])
        rows = groups.rows[ask.group][present]
        items = Shortlist(
            rows,
            groups.interactions_total[ask.group][present],
            groups.mean_value[ask.group][present],
            vectors[rows] @ user,
        )
        recent = _recent(data.log, ask.history, time)
        read = recent.newest(len(newest))
        newest[: len(read)] = read
        counts = popularity.before(time)
        features[present] = dense_features(sources, recent, groups.user_values[ask.group], items, counts)
    group = np.array([ask.group for ask in asks], dtype=np.int64)
    return RankingData(
        groups=data.groups,
        conversions=conversions_of(data, np.isin(np.arange(len(data.groups)), group), settings.ranking),
        dense=dense,
        group=group,
        recent=attended,
        vectors=vectors[: len(data.items)],
        cold=stage.retrieval.cold_vectors([item.item_id for item in data.items], content),
    )


def _asks(data: TrainingData, settings: ModelSettings) -> Iterator[_Ask]:
    rng = np.random.default_rng(settings.seed)
    log, length, groups = data.log, settings.history_length, data.groups
    for group, (user, time) in enumerate(zip(groups.users.tolist(), groups.times.tolist(), strict=True)):
        history = log.history(user, time, length)
        if history.start < history.stop:
            yield _Ask(group, history)
        lag = np.exp(rng.uniform(np.log(_HOUR_MS), np.log(_MONTH_MS)))
        earlier = log.history(user, int(time - lag), length)
        if rng.random() < settings.ranking.stale_share and earlier.start < earlier.stop and earlier != history:
            yield _Ask(group, earlier)


def _recent(log: Log, history: slice, time: int) -> Recent:
    rows = log.rows[history][log.wanted[history]]
    return Recent(rows, history.stop - history.start, (time - int(log.times[history.stop - 1])) / 1000)


def _read(data: TrainingData, ask: _Ask, length: int) -> Read:
    newest = slice(max(ask.history.start, ask.history.stop - length), ask.history.stop)
    gaps = gap_buckets(data.log.times[newest], int(data.groups.times[ask.group]))
    return Read(data.log.rows[newest], data.log.kinds[newest], gaps)


class _Popularity:
    """The popularity as of times that only go forward."""

    def __init__(self, log: Log, items: int) -> None:
        order = np.flatnonzero(log.wanted)
        order = order[np.argsort(log.times[order], kind="stable")]
        self._times, self._rows, self._items = log.times[order], log.rows[order], items
        self._window = PopularityWindow(items)
        self._seen = 0

    def before(self, time: int) -> PopularityCounts:
        """Return the counts of everything that happened before `time`, ms."""
        end = int(np.searchsorted(self._times, time))
        self._window.observe(self._rows[self._seen : end], self._times[self._seen : end])
        self._seen = end
        return popularity_counts(self._window, time, self._items)
