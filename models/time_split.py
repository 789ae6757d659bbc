"""Evaluation on a later time: for every user the whole catalogue as of the start is ranked, never sampled negatives.

Histories end at the start; what a user had seen is not shown again; the targets are the items that they came to later.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.leave_one_out import ScoresUnusable, first_items
from models.metrics import coverage, ranks_by
from models.quality import Answer, Columns, K, by_user
from models.slices import Slice
from models.vocabulary import in_natural_order
from streaming.ids import ItemId, UserId

Rows = NDArray[np.int64]


class SliceRanker(Protocol):
    """Anything that scores the catalogue of a split for a user, as of its start."""

    def scores(self, user_id: UserId) -> NDArray[np.floating[Any]]:
        """Return new scores, float32 or better, [catalogue]; the higher the better. The caller may overwrite them."""


@dataclass(frozen=True)
class Asked:
    """One user's question, in rows of the catalogue: what was seen and the targets, int64 each.

    `new` bool[targets + missing] says which targets have no event before the start; the last `missing` ones are not in
    the catalogue, so that every ranker misses them.
    """

    user_id: UserId
    history: int
    seen: Rows
    targets: Rows
    missing: int
    new: NDArray[np.bool_]


@dataclass(frozen=True)
class TimeSplit:
    """The questions of a slice. `catalogue` is what has a row, `events` int64[catalogue] how often before the start."""

    catalogue: Sequence[ItemId]
    events: Rows
    asked: Sequence[Asked]

    @classmethod
    def of(cls, part: Slice) -> "TimeSplit":
        """Ask every user of the slice who came to an item that they had not seen."""
        shown = {item_id for item_id, content in part.items.items() if content is not None}
        hidden = part.items.keys() - shown
        catalogue = in_natural_order((part.counts.keys() | shown) - hidden)
        rows = {item_id: row for row, item_id in enumerate(catalogue)}
        events = np.array([part.counts[item_id] for item_id in catalogue], dtype=np.int64)
        asked = [
            _question(part, user_id, in_natural_order(targets), rows)
            for user_id, past in part.users.items()
            if (targets := past.targets)
        ]
        return cls(catalogue, events, asked)

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """The share of the events before the start that each item has, float64[catalogue]."""
        return self.events / max(int(self.events.sum()), 1)


@dataclass(frozen=True)
class Measured:
    """What a ranker made of a split: an answer to each question, in their order, and how much it shows.

    `coverage10` is the share of the catalogue that any user's first ten show, `shown10` the number of those items.
    """

    name: str
    users: Sequence[UserId]
    answers: Sequence[Answer]
    coverage10: float
    shown10: int

    @cached_property
    def columns(self) -> Columns:
        """Every metric by user."""
        return by_user(zip(self.users, self.answers, strict=True))


def ask(name: str, ranker: SliceRanker, split: TimeSplit) -> Measured:
    """Ask a ranker every question; raises ScoresUnusable."""
    shown, answers = np.zeros(len(split.catalogue), dtype=np.int64), []
    for question in split.asked:
        scores = _checked(name, ranker.scores(question.user_id), question, len(split.catalogue))
        scores[question.seen] = np.nan
        first = first_items(scores[None], K)[0] if len(scores) else np.zeros(0, dtype=np.bool_)
        shown += first
        popularity = float(split.shares[first].mean()) if first.any() else 0.0
        answers.append(Answer(_ranks(scores, question), question.new, popularity))
    users = [question.user_id for question in split.asked]
    return Measured(name, users, answers, coverage(shown), int((shown > 0).sum()))


def _question(part: Slice, user_id: UserId, targets: Sequence[ItemId], rows: dict[ItemId, int]) -> Asked:
    past = part.users[user_id]
    known = [item_id for item_id in targets if item_id in rows]
    missing = [item_id for item_id in targets if item_id not in rows]
    return Asked(
        user_id=user_id,
        history=len(past.events),
        seen=np.array([rows[item_id] for item_id in past.seen if item_id in rows], dtype=np.int64),
        targets=np.array([rows[item_id] for item_id in known], dtype=np.int64),
        missing=len(missing),
        new=np.array([part.counts[item_id] == 0 for item_id in (*known, *missing)], dtype=np.bool_),
    )


def _ranks(scores: NDArray[np.floating[Any]], question: Asked) -> NDArray[np.float64]:
    missed = np.full(question.missing, np.inf)
    return np.concatenate((ranks_by(scores, question.targets), missed)) if len(question.targets) else missed


def _checked(name: str, scores: NDArray[np.floating[Any]], question: Asked, items: int) -> NDArray[np.floating[Any]]:
    user_id = question.user_id
    if scores.shape != (items,):
        raise ScoresUnusable(f"{name} answers user {user_id!r} with scores {scores.shape}, not one for each of {items}")
    if scores.dtype not in (np.float32, np.float64):
        raise ScoresUnusable(
            f"scores are float32 or better, since coarser ones tie, and those of {name} are {scores.dtype}"
        )
    if np.isnan(scores).any():
        raise ScoresUnusable(f"{name} scored an item for user {user_id!r} as NaN, which has no rank")
    return scores
