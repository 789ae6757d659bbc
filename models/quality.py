"""What a ranker made of users' questions, and the means over users with their 95 % intervals."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from models.bootstrap import Mean, bootstrap_means
from models.metrics import Ranks, hit_of, ndcg_of, recall_of, reciprocal_rank_of
from streaming.ids import UserId

K, DEEP = 10, 50

Columns = Mapping[str, Mapping[UserId, float]]
"""Values by metric and user; a user is missing where the metric says nothing about them."""

Key = TypeVar("Key", bound=Hashable)

_DRAWS = 2_000


@dataclass(frozen=True)
class Answer:
    """What a ranker made of one question.

    `ranks` float64[targets] from 0; `new` bool[targets], which of them have no training event; `popularity10` is the
    popularity bias, the mean share of the training events that one of its first ten has.
    """

    ranks: Ranks
    new: NDArray[np.bool_]
    popularity10: float

    def values(self, deep: int) -> dict[str, float]:
        """Return every metric, recall among the first `deep`; new-item recall only where a target is new."""
        found = {
            f"hr{K}": hit_of(self.ranks, K),
            f"ndcg{K}": ndcg_of(self.ranks, K),
            f"recall{deep}": recall_of(self.ranks, deep),
            "mrr": reciprocal_rank_of(self.ranks),
            f"popularity{K}": self.popularity10,
        }
        if self.new.any():
            found[f"new_recall{deep}"] = recall_of(self.ranks[self.new], deep)
        return found

    def only(self, targets: NDArray[np.bool_]) -> "Answer":
        """Return the same of some of the targets, whose ranks stay."""
        return Answer(self.ranks[targets], self.new[targets], self.popularity10)


def by_user(answers: Iterable[tuple[UserId, Answer]], deep: int = DEEP) -> Columns:
    """Return each user's mean over their questions, by metric."""
    values: dict[str, dict[UserId, list[float]]] = defaultdict(lambda: defaultdict(list))
    for user_id, answer in answers:
        for metric, value in answer.values(deep).items():
            values[metric][user_id].append(value)
    return {
        metric: {user_id: float(np.mean(own)) for user_id, own in users.items()} for metric, users in values.items()
    }


def means(columns: Mapping[Key, Mapping[UserId, float]], seed: int) -> dict[Key, Mean]:
    """Return the mean of each column over its users; columns of the same users are resampled together, at once."""
    together: dict[tuple[UserId, ...], list[Key]] = defaultdict(list)
    for key, values in columns.items():
        together[tuple(values)].append(key)
    found: dict[Key, Mean] = {}
    for keys in together.values():
        rows = [list(columns[key].values()) for key in keys]
        found |= dict(zip(keys, bootstrap_means(rows, seed, _DRAWS), strict=True))
    return {key: found[key] for key in columns}


def differences(ours: Columns, theirs: Columns) -> Columns:
    """Return ours minus theirs by metric, for the users that both have a value of."""
    found = {
        metric: {user: value - theirs[metric][user] for user, value in values.items() if user in theirs[metric]}
        for metric, values in ours.items()
        if metric in theirs
    }
    return {metric: values for metric, values in found.items() if values}
