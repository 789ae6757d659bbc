"""Ranking within a time budget: when the ranker would take too long, or fails, the order of retrieval has to do.

How long it would take is what it took lately for a candidate, times their number. How long a request waited for its
turn is not guessed: it is what has passed of its time when its turn comes.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.scorer import Query
from models.served import RankerFailed
from services.recommend.candidates import usage
from services.recommend.live import Live

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

RANKER_SLOW = "ranker_slow"
RANKER_FAILED = "ranker_failed"
OVERLOAD = "overload"

_log = logging.getLogger(__name__)

_NEWEST = 0.25  # weight of the newest in a mean
_TRY_AGAIN_S = 1.0
_RESTS = 10  # times as long as it took last
_LOG_S = 60.0

Rank = Callable[[Live, Query, Rows, Mapping[str, float]], Scores]
"""Returns what orders candidates, float32[rows]; raises Unranked when that cannot be had."""


class Unranked(Exception):
    """Candidates stay in the order of retrieval; the argument is the fallback's name."""

    def __init__(self, fallback: str) -> None:
        super().__init__(fallback)
        self.fallback = fallback


def score_rows(live: Live, query: Query, rows: Rows, weights: Mapping[str, float]) -> Scores:
    """Return what orders candidates, float32[rows]: the model's scores, or without one how used they were lately.

    `weights` are those of conversions that the loaded model predicts; raises UnknownTask for any other, RankerFailed.
    """
    if live.scorer is None or len(rows) == 0:
        return usage(live, rows, query.as_of, 30).astype(np.float32)
    return live.scorer.rank(query, rows, live.popularity, weights)


def unranked(fallback: str) -> Rank:
    """Return what never ranks, under the name of a fallback."""

    def refuse(_live: Live, _query: Query, _rows: Rows, _weights: Mapping[str, float]) -> Scores:
        raise Unranked(fallback)

    return refuse


class Ranker:
    """Ranks while the time allows. It belongs to whoever has the live state.

    After it was found too slow it is tried again now and then, ever more rarely the longer it takes, and what it takes
    then counts in place of what it took before. Users without a history are not ranked by the model, and cost nothing.
    """

    def __init__(self, budget_s: float, clock: Callable[[], float], score: Rank = score_rows) -> None:
        """`budget_s` is a request's time from its start to its candidates' scores, `clock` in seconds."""
        self._budget_s = budget_s
        self._clock = clock
        self._score = score
        self._took_s, self._candidates = 0.0, 0.0  # exponentially weighted means
        self._try_at: float | None = None  # set while it is too slow
        self._log_at = float("-inf")

    def from_now(self) -> Rank:
        """Return what ranks within the time of a request that starts now."""
        return partial(self._rank, self._clock())

    def _rank(self, started: float, live: Live, query: Query, rows: Rows, weights: Mapping[str, float]) -> Scores:
        if live.scorer is None or not query.history.events or len(rows) == 0:
            return self._score(live, query, rows, weights)
        began = self._clock()
        left = self._budget_s - (began - started)
        if left <= 0 or (self._expected_s(len(rows)) > left and not self._may_try(began)):
            raise Unranked(RANKER_SLOW)
        try:
            scores = self._score(live, query, rows, weights)
        except RankerFailed as error:
            self._complain(began, error)
            raise Unranked(RANKER_FAILED) from error
        self._learn(began, len(rows))
        return scores

    def _expected_s(self, candidates: int) -> float:
        return self._took_s / self._candidates * candidates if self._candidates else 0.0

    def _may_try(self, now: float) -> bool:
        """Whether the ranker, expected to take too long, is tried all the same."""
        if self._try_at is None:
            self._try_at = now + _TRY_AGAIN_S
        return now >= self._try_at

    def _learn(self, began: float, candidates: int) -> None:
        now = self._clock()
        took = now - began
        if self._try_at is not None or not self._candidates:
            self._took_s, self._candidates = took, candidates
            self._try_at = now + max(_TRY_AGAIN_S, _RESTS * took) if took > self._budget_s else None
            return
        self._took_s += _NEWEST * (took - self._took_s)
        self._candidates += _NEWEST * (candidates - self._candidates)

    def _complain(self, now: float, error: RankerFailed) -> None:
        if now >= self._log_at:
            self._log_at = now + _LOG_S
            _log.error("slates are shown in the order of retrieval: %s", error)
