"""Leave-one-out evaluation: for every user the whole catalogue is ranked, and one item is the right one.

Never sampled negatives, which change the order of models (W. Krichene and S. Rendle, On sampled metrics for item
recommendation, KDD 2020).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import Mean, bootstrap_mean, bootstrap_means
from models.metrics import Ranks, coverage, gains, hits, popularity_bias, reciprocals
from models.sequences import Questions, Sequences
from streaming.errors import FlywheelError

_K = 10

Scores = NDArray[np.floating[Any]]


class SequenceRanker(Protocol):
    """Anything that scores the catalogue given histories."""

    def scores(self, histories: Sequences) -> Scores:
        """Return new scores, float32 or better, [histories.users, histories.items]; the higher the better.

        The caller masks what is in the histories, and may overwrite the array.
        """


class ScoresUnusable(FlywheelError):
    """A ranker's scores cannot be ranked by; the text says which and why."""


@dataclass(frozen=True)
class Summary:
    """Means over users with their intervals; coverage and popularity are of the first ten of all users together.

    With one target a user, recall@10 is HR@10. `new_recall10` is over the users whose target has no training event,
    None without any.
    """

    hr10: Mean
    ndcg10: Mean
    mrr: Mean
    new_recall10: Mean | None
    coverage10: float
    popularity10: float


@dataclass(frozen=True)
class Outcome:
    """What a ranker reached.

    `ranks` float64[users], the target's, from 0; infinite where the target was in the history. `new` bool[users],
    whether the target has no training event.
    `coverage10` is the share of the catalogue that any user's first ten show; `popularity10` the popularity bias, the
    mean share of the training events that a shown item has.
    """

    ranks: Ranks
    new: NDArray[np.bool_]
    coverage10: float
    popularity10: float

    @property
    def hr10(self) -> Ranks:
        """1 where the target is among the first ten, else 0: float64[users]."""
        return hits(self.ranks, _K)

    @property
    def ndcg10(self) -> Ranks:
        """The discounted gain of the target where it is a hit; the ideal of one target is 1: float64[users]."""
        return gains(self.ranks, _K)

    @property
    def mrr(self) -> Ranks:
        """The target's reciprocal place, over the whole catalogue: float64[users]."""
        return reciprocals(self.ranks)

    def summary(self, seed: int = 0) -> Summary:
        """Return the means; the seed is that of the bootstrap."""
        hr10, ndcg10, mrr = bootstrap_means([self.hr10, self.ndcg10, self.mrr], seed)
        new = bootstrap_mean(self.hr10[self.new], seed) if self.new.any() else None
        return Summary(hr10, ndcg10, mrr, new, self.coverage10, self.popularity10)


def evaluate(ranker: SequenceRanker, questions: Questions, training: Sequences, batch: int = 256) -> Outcome:
    """Ask for every user, `batch` of them at a time; everything in the histories is masked.

    Raises ScoresUnusable, and ValueError when nobody is asked or there is nothing in `training`.
    """
    users = questions.histories.users
    if not users or not len(training.rows):
        raise ValueError("leave-one-out needs a user to ask and an event to have trained on")
    ranks, shown = [], np.zeros(training.items)
    for first in range(0, users, batch):
        histories = questions.histories.batch(first, first + batch)
        scores = _checked(ranker.scores(histories), histories, first)
        scores[histories.owners(), histories.rows] = np.nan
        ranks.append(target_ranks(scores, questions.targets[first : first + batch]))
        shown += first_items(scores, _K).sum(axis=0)
    events = training.counts()
    return Outcome(
        ranks=np.concatenate(ranks),
        new=events[questions.targets] == 0,
        coverage10=coverage(shown),
        popularity10=popularity_bias(shown, events),
    )


def target_ranks(scores: Scores, targets: NDArray[np.int32]) -> Ranks:
    """Return each target's rank from 0: the items strictly better plus half of the other tied ones.

    Masked items are NaN in `scores` [users, items] and count for nothing; a masked target's rank is infinite.
    """
    own = np.take_along_axis(scores, targets[:, None].astype(np.int64), axis=1)
    better, tied = (scores > own).sum(axis=1), (scores == own).sum(axis=1) - 1
    return np.where(np.isnan(own[:, 0]), np.inf, better + tied / 2)


def first_items(scores: Scores, k: int) -> NDArray[np.bool_]:
    """Return which items are each user's first `k`, ties by the smaller row: bool[users, items]; NaN is never one."""
    k = min(k, scores.shape[1])
    last = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]  # NaN sorts behind everything
    last = np.where(np.isnan(last), -np.inf, last)
    better, tied = scores > last, scores == last
    room = k - better.sum(axis=1, keepdims=True)
    shown: NDArray[np.bool_] = better | (tied & (np.cumsum(tied, axis=1) <= room))
    return shown


def _checked(scores: Scores, histories: Sequences, first: int) -> Scores:
    if scores.shape != (histories.users, histories.items):
        raise ScoresUnusable(
            f"a ranker answers [{histories.users}, {histories.items}] scores, and this one {scores.shape}"
        )
    if scores.dtype not in (np.float32, np.float64):
        raise ScoresUnusable(f"scores are float32 or better, since coarser ones tie, and these are {scores.dtype}")
    bad = np.isnan(scores).any(axis=1)
    if bad.any():
        raise ScoresUnusable(f"the ranker scored an item of user {first + int(bad.argmax())} as NaN, which has no rank")
    return scores
