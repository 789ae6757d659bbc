"""The dense inputs of the ranker: one function for trainer and server. Numpy only.

Every input is finite whatever it is computed from; an unknown value is 0 and, where that matters, has a flag.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from features.popularity import PopularityWindow
from models.candidate_votes import Electorate, Places, votes_for
from models.neighbours import Neighbours
from models.spec import ContentSpec
from models.tables import GrowingTable

Rows = NDArray[np.int64]
Vector = NDArray[np.float32]
Matrix = NDArray[np.float32]

STEPS, ACROSS, WIDE, ALIKE = "steps", "across", "wide", "alike"
NEIGHBOUR_TABLES = (STEPS, ACROSS, WIDE, ALIKE)
"""Transitions within 5 steps, the same between different seconds only, within 20 steps, and cosine similarity."""

_WINDOWS = (1, 7, 30)  # days of popularity
_VOTERS = ((STEPS, 5), (ACROSS, 5), (WIDE, 20), (ALIKE, 50))  # how many of the newest items vote by which table
_MOST_VOTERS = 50
_DAY_S, _HOUR_S, _MINUTE_S = 86_400.0, 3_600.0, 60.0

_OF_ITEM = (
    "popularity_1d",
    "popularity_7d",
    "popularity_30d",
    "popularity_share_30d",
    "trend_1d_7d",
    "trend_7d_30d",
    "interactions_total",
    "mean_value",
    "is_known",
    "last_step",
    "steps",
    "steps_raw",
    "across",
    "wide",
    "alike",
    "alike_recent",
    "categories",
    "categories_recent",
    "sequence",
)
_OF_QUERY = (
    "history_size",
    "history_short",
    "gap",
    "gap_below_minute",
    "gap_above_hour",
    "gap_above_day",
    "user_known",
    "user_interactions_total",
    "user_mean_value",
)


@dataclass(frozen=True)
class Recent:
    """A history as rows: `rows` int64[n], newest last, without unknown items and negative feedback.

    `size` counts all events read; `gap_s` is the time from the last one to the time of asking, seconds.
    """

    rows: Rows
    size: int
    gap_s: float

    def newest(self, places: int) -> Rows:
        """Return the rows of the newest items, newest first, at most `places` of them."""
        return self.rows[::-1][:places]


@dataclass(frozen=True)
class UserValues:
    """The user's features from the store; None where it has none."""

    interactions_total: float | None
    mean_value: float | None

    @classmethod
    def of(cls, features: Mapping[str, float | str]) -> "UserValues":
        """Take the two from the features of the online store or of a training example."""
        return cls(_number(features.get("interactions_total")), _number(features.get("mean_value")))


@dataclass(frozen=True)
class Sources:
    """What features are computed from besides the query: `content` is float32[items, spec.width].

    The items of the neighbour tables are those that the model was trained on; they come first in `content`.
    """

    spec: ContentSpec
    content: GrowingTable[np.float32]
    neighbours: Mapping[str, Neighbours]
    places: Places = field(default_factory=Places)


@dataclass(frozen=True)
class PopularityCounts:
    """How often each row was used, int64[rows], by the days that are counted, and the sum of the longest count."""

    by_days: Mapping[int, NDArray[np.int64]]
    total: int


@dataclass(frozen=True)
class Shortlist:
    """The candidates of one query, `rows` int64[n], each with float32[n] values of its own.

    `interactions_total` and `mean_value` are Feast's item features; `sequence` is the sequence model's score.
    """

    rows: Rows
    interactions_total: Vector
    mean_value: Vector
    sequence: Vector


def feature_names(spec: ContentSpec) -> tuple[str, ...]:
    """Return the names of the inputs in order."""
    numbers = [name for number in spec.numbers for name in (f"number.{number.name}", f"distance.{number.name}")]
    return (*_OF_ITEM, *numbers, *_OF_QUERY)


def dense_features(
    sources: Sources, recent: Recent, user: UserValues, items: Shortlist, popularity: PopularityCounts
) -> Matrix:
    """Return float32[candidates, features] of one query; `popularity` holds what `popularity_counts` returns."""
    content = _Content(sources.spec, sources.content.take(items.rows), sources.content.take(recent.rows[-50:]))
    blocks = [
        _popularity(popularity, items.rows),
        np.stack((np.log1p(items.interactions_total), items.mean_value)),
        (items.rows < len(sources.neighbours[STEPS].rows))[None],
        _co_visits(sources, recent, items.rows),
        _categories(content),
        items.sequence[None],
        *_numbers(content),
        _query(recent, user)[:, None],
    ]
    # Filled by feature, each in one piece of memory, and turned once: stacking columns takes twice as long.
    dense = np.empty((sum(len(block) for block in blocks), len(items.rows)), dtype=np.float32)
    start = 0
    for block in blocks:
        dense[start : start + len(block)] = block
        start += len(block)
    return np.ascontiguousarray(dense.T)


def popularity_counts(window: PopularityWindow, as_of: int, size: int) -> PopularityCounts:
    """Return the counts by days that `dense_features` needs, each for rows 0 … size-1 at least; `as_of` in ms."""
    window.cover(size)
    by_days = {days: window.counts(as_of, days) for days in _WINDOWS}
    return PopularityCounts(by_days, window.total(as_of, _WINDOWS[-1]))


def _popularity(popularity: PopularityCounts, rows: Rows) -> NDArray[np.float64]:
    counts = np.stack([popularity.by_days[days].take(rows) for days in _WINDOWS])
    block = np.empty((6, len(rows)))
    np.log(counts + 0.5, out=block[:3])
    np.log(counts[-1] / (popularity.total + 1) + 1e-3, out=block[3])
    np.subtract(block[:2], block[1:3], out=block[4:])
    return block


def _co_visits(sources: Sources, recent: Recent, rows: Rows) -> Matrix:
    newest, tables = recent.newest(_MOST_VOTERS), sources.neighbours
    electorate = Electorate(newest, [(tables[name], last) for name, last in _VOTERS], _vote_weights(len(newest)))
    with sources.places.of(rows, len(sources.content)) as places:
        last, steps, across, wide, alike, alike_recent = votes_for(electorate, places, len(rows))
    return np.stack(
        (
            np.log(last + 1e-2),
            np.log(steps + 1e-2),
            steps * 10,
            np.log(across + 1e-2),
            np.log(wide + 1e-3),
            alike * 10,
            alike_recent * 10,
        )
    )


@cache
def _vote_weights(length: int) -> Matrix:
    """Return what each voter of a history of this many items weighs in each kind of vote, newest first."""
    counts = [min(last, length) for _, last in _VOTERS]
    steps, across, wide, alike = np.split(np.arange(sum(counts)), np.cumsum(counts)[:-1])
    weights = np.zeros((6, sum(counts)), dtype=np.float32)
    for kind, voters in enumerate((steps[:1], steps, across, wide)):
        weights[kind, voters] = 1 / np.arange(1, len(voters) + 1)
    for kind, voters in enumerate((alike, alike[:5]), start=4):
        weights[kind, voters] = 1 / max(len(voters), 1)
    return weights


@dataclass(frozen=True)
class _Content:
    """Content vectors: `own` of the candidates and `history` of at most the newest 50 items, newest last."""

    spec: ContentSpec
    own: Matrix
    history: Matrix


def _categories(content: _Content) -> Matrix:
    width = len(content.spec.categories)
    means = np.stack([_mean(content.history[-last:, :width]) for last in (50, 5)])
    shares: Matrix = means @ content.own[:, :width].T
    return shares


def _numbers(content: _Content) -> list[Matrix]:
    first = len(content.spec.categories)
    places = slice(first, first + len(content.spec.numbers))
    own, history = content.own[:, places], content.history[-10:, places]
    distance = -np.abs(own - _mean(history)) if len(history) else np.zeros_like(own)
    return [np.stack(pair) for pair in zip(own.T, distance.T, strict=True)]


def _query(recent: Recent, user: UserValues) -> Vector:
    total, value = user.interactions_total, user.mean_value
    gap = max(recent.gap_s, 0.0)
    values = (
        np.log1p(recent.size),
        recent.size < 20,
        np.log1p(gap) / 5,
        gap < _MINUTE_S,
        gap > _HOUR_S,
        gap > _DAY_S,
        total is not None,
        np.log1p(total or 0.0),
        value or 0.0,
    )
    return np.array(values, dtype=np.float32)


def _mean(vectors: Matrix) -> Vector:
    mean: Vector = vectors.sum(axis=0) / np.float32(max(len(vectors), 1))
    return mean


def _number(value: float | str | None) -> float | None:
    if value is None or isinstance(value, str) or not np.isfinite(value):
        return None
    return float(value)
