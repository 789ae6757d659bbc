"""Held-out evaluation on later events: who is asked, what counts as right, and the scores.

Frozen: every test user is asked once, as of the cut. Prequential: users are asked before each group of events of one
second, which is fed in afterwards (A. P. Dawid, Statistical theory: the prequential approach, JRSS A 147(2), 1984).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from models.bootstrap import Mean
from models.metrics import ndcg, ranks_in
from models.quality import Answer, K, by_user, means
from streaming.dataset import InteractionRecord
from streaming.ids import ItemId, UserId

Ranked = Sequence[ItemId]


@dataclass(frozen=True)
class Case:
    """A test user of the frozen protocol; `targets` are their later items that they had not seen in training."""

    user_id: UserId
    targets: frozenset[ItemId]
    seen: frozenset[ItemId]

    @property
    def is_new(self) -> bool:
        """Whether training has no event of the user."""
        return not self.seen


@dataclass(frozen=True)
class Group:
    """What one user did within one second, `time` in ms: asked for just before, fed in afterwards."""

    user_id: UserId
    time: int
    events: Sequence[InteractionRecord]

    @property
    def items(self) -> frozenset[ItemId]:
        """The group's items, which are its targets."""
        return frozenset(event.item_id for event in self.events)


@dataclass(frozen=True)
class Quality:
    """Means over users, and every metric with its 95 % interval over users by name.

    `coverage10` is the share of the catalogue that any user's first ten show, `seen_rate` that of answers that had been
    seen. The metrics are those of `models.quality`, MRR over the answers.
    """

    users: int
    hr10: float
    ndcg10: float
    recall50: float
    coverage10: float
    seen_rate: float
    intervals: Mapping[str, Mean]


def frozen_cases(train: Sequence[InteractionRecord], test: Sequence[InteractionRecord]) -> list[Case]:
    """Return the test users that have a target, in the order of their first test event."""
    seen, later = _items_by_user(train), _items_by_user(test)
    cases = [Case(user, frozenset(later[user] - seen[user]), frozenset(seen[user])) for user in later]
    return [case for case in cases if case.targets]


def prequential_groups(test: Sequence[InteractionRecord]) -> list[Group]:
    """Return the groups in order of time; users within one second in the order of their first event."""
    groups = []
    for second, events in groupby(test, key=lambda event: event.time // 1000):
        by_user: dict[UserId, list[InteractionRecord]] = defaultdict(list)
        for event in events:
            by_user[event.user_id].append(event)
        groups += [Group(user, second * 1000, own) for user, own in by_user.items()]
    return groups


def frozen_quality(
    cases: Sequence[Case], answers: Mapping[UserId, Ranked], events: Mapping[ItemId, int], seed: int = 0
) -> dict[str, Quality]:
    """Return the scores of the answers (50 items a user) for `warm`, `new` and `all` users.

    `events` holds the catalogue with each item's number of training events; the seed is that of the bootstrap.
    """
    parts = {
        "warm": [case for case in cases if not case.is_new],
        "new": [case for case in cases if case.is_new],
        "all": list(cases),
    }
    return {name: _quality(part, answers, events, seed) for name, part in parts.items()}


def frozen_ndcg(cases: Sequence[Case], answers: Mapping[UserId, Ranked]) -> list[float]:
    """Return NDCG@10 of each case, in their order."""
    return [ndcg(answers[case.user_id], case.targets, 10) for case in cases]


def prequential_ndcg(groups: Sequence[Group], answers: Sequence[Ranked]) -> dict[UserId, float]:
    """Return NDCG@10 of each user, averaged over the user's groups."""
    values: dict[UserId, list[float]] = defaultdict(list)
    for group, answer in zip(groups, answers, strict=True):
        values[group.user_id].append(ndcg(answer, group.items, 10))
    return {user: float(np.mean(of_user)) for user, of_user in values.items()}


def prequential_quality(
    groups: Sequence[Group], answers: Sequence[Ranked], events: Mapping[ItemId, int], seed: int = 0
) -> dict[str, Mean]:
    """Return the means over users of the users' means over their groups, by metric, recall among the ten answers."""
    total = max(sum(events.values()), 1)
    found = [
        (group.user_id, _answer(answer, sorted(group.items), events, total))
        for group, answer in zip(groups, answers, strict=True)
    ]
    return means(by_user(found, K), seed)


def _quality(
    cases: Sequence[Case], answers: Mapping[UserId, Ranked], events: Mapping[ItemId, int], seed: int
) -> Quality:
    if not cases:
        return Quality(0, 0.0, 0.0, 0.0, 0.0, 0.0, {})
    ranked, total = [answers[case.user_id] for case in cases], max(sum(events.values()), 1)
    shown = sum(len(answer) for answer in ranked)
    already = sum(item in case.seen for case, answer in zip(cases, ranked, strict=True) for item in answer)
    found = [
        (case.user_id, _answer(answer, sorted(case.targets), events, total))
        for case, answer in zip(cases, ranked, strict=True)
    ]
    intervals = means(by_user(found), seed)
    return Quality(
        users=len(cases),
        hr10=intervals["hr10"].mean,
        ndcg10=intervals["ndcg10"].mean,
        recall50=intervals["recall50"].mean,
        coverage10=len({item for answer in ranked for item in answer[:K]}) / len(events),
        seen_rate=already / shown if shown else 0.0,
        intervals=intervals,
    )


def _answer(ranked: Ranked, targets: Sequence[ItemId], events: Mapping[ItemId, int], total: int) -> Answer:
    new = np.array([events.get(item, 0) == 0 for item in targets], dtype=np.bool_)
    shares = [events.get(item, 0) / total for item in ranked[:K]]
    return Answer(ranks_in(ranked, targets), new, float(np.mean(shares)) if shares else 0.0)


def _items_by_user(events: Sequence[InteractionRecord]) -> dict[UserId, set[ItemId]]:
    items: dict[UserId, set[ItemId]] = defaultdict(set)
    for event in events:
        items[event.user_id].add(event.item_id)
    return items
