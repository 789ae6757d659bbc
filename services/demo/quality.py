"""The quality of what is served, measured over HTTP on held-out events, beside baselines that see the same."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from models.baselines import Baseline, ItemKnn, Markov, Popularity, Product, RecentPopularity
from models.bootstrap import Mean
from models.heldout import (
    Group,
    Quality,
    frozen_cases,
    frozen_ndcg,
    frozen_quality,
    prequential_groups,
    prequential_ndcg,
    prequential_quality,
)
from models.metrics import Interval, paired_bootstrap
from models.offline import evaluate
from models.scorer import Scorer
from models.slices import Slice
from services.demo.client import ApiClient, items_of
from services.demo.world import Replayed
from streaming.dataset import InteractionRecord
from streaming.ids import ItemId, UserId
from streaming.replay import Shift

_FROZEN_N, _PREQUENTIAL_N = 50, 10
POPULAR_30D = "popularity_30d"
MARKOV_RECENT = "markov_x_sqrt_popularity_30d"

Answers = dict[UserId, list[ItemId]]


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """Part a: histories end at the cut. `against_30d` compares NDCG@10 with the 30-day list, paired over users."""

    served: dict[str, Quality]
    baselines: dict[str, dict[str, Quality]]
    against_30d: dict[str, Interval]


class Prequential(msgspec.Struct, frozen=True, kw_only=True):
    """Part b: the model is frozen, the history live. The baseline is the live 30-day list; means over users.

    `quality` holds every metric with its interval, of what was served and of each baseline.
    """

    users: int
    groups: int
    ndcg10: float
    baseline_ndcg10: float
    difference: float
    difference_low: float
    difference_high: float
    against_markov: Interval
    other_baselines: dict[str, float]
    quality: dict[str, dict[str, Mean]]
    best_possible_ndcg10: float | None = None


class Offline(msgspec.Struct, frozen=True, kw_only=True):
    """NDCG@10 of part a's users with the artifact's scorer on the full catalogue, before anything serves it."""

    users: int
    ndcg10: float
    popularity: float
    item_knn: float


def measure_offline(scorer: Scorer, known: Slice, world: Replayed) -> Offline:
    """Compare a model with popularity and item-kNN on the held-out events; `known` is the lake up to the cut."""
    cases = frozen_cases(world.train, world.test)
    values = evaluate(scorer, known.followed_by({case.user_id: case.targets for case in cases})).ndcg10
    popularity, item_knn = (
        frozen_ndcg(cases, {case.user_id: ranker.answer(case.user_id, world.cut, _PREQUENTIAL_N) for case in cases})
        for ranker in (Popularity(world.train), ItemKnn(world.train))
    )
    return Offline(
        users=len(values),
        ndcg10=sum(values.values()) / len(values),
        popularity=sum(popularity) / len(cases),
        item_knn=sum(item_knn) / len(cases),
    )


class BaselineAnswers(msgspec.Struct, frozen=True, kw_only=True):
    """What the baselines answer, by name: for every case of part a by user, and for every group of part b in order."""

    frozen: dict[str, Answers]
    live: dict[str, list[list[ItemId]]]


def ask_baselines(world: Replayed) -> BaselineAnswers:
    """Ask the baselines what the services are asked."""
    cases, groups = frozen_cases(world.train, world.test), prequential_groups(world.test)
    frozen = {
        name: {case.user_id: ranker.answer(case.user_id, world.cut, _FROZEN_N) for case in cases}
        for name, ranker in _frozen_baselines(world.train).items()
    }
    live = {name: live_answers(ranker, groups) for name, ranker in _live_baselines(world.train).items()}
    return BaselineAnswers(frozen=frozen, live=live)


def live_answers(ranker: Baseline, groups: Sequence[Group]) -> list[list[ItemId]]:
    """Ask a baseline before each group and feed the group, as the services are asked."""
    answers = []
    for group in groups:
        answers.append(ranker.answer(group.user_id, group.time, _PREQUENTIAL_N))
        for event in group.events:
            ranker.observe(event)
    return answers


def ask_frozen(client: ApiClient, world: Replayed, shift: Shift) -> Answers:
    """Ask the services once for every test user, as of the cut."""
    cases = frozen_cases(world.train, world.test)
    steps = [{"user_id": case.user_id, "as_of": shift(world.cut), "n": _FROZEN_N} for case in cases]
    slates = client.evaluate(steps)
    return {case.user_id: items_of(slate) for case, slate in zip(cases, slates, strict=True)}


def ask_live(client: ApiClient, world: Replayed, shift: Shift, progress: Callable[[int], None]) -> list[list[ItemId]]:
    """Ask the services before each group of the test events and feed the group."""
    steps = _steps(prequential_groups(world.test), shift)
    return [items_of(slate) for slate in client.evaluate(steps, progress)]


def compare_frozen(world: Replayed, served: Answers, answers: dict[str, Answers], seed: int) -> Frozen:
    """Return the quality of what was served and of the baselines."""
    cases = frozen_cases(world.train, world.test)
    events = Counter(event.item_id for event in world.train)
    parts = {"warm": [case for case in cases if not case.is_new], "all": cases}
    return Frozen(
        served=frozen_quality(cases, served, events, seed),
        baselines={name: frozen_quality(cases, ranked, events, seed) for name, ranked in answers.items()},
        against_30d={
            name: paired_bootstrap(frozen_ndcg(part, served), frozen_ndcg(part, answers[POPULAR_30D]), seed)
            for name, part in parts.items()
            if part
        },
    )


def compare_live(
    world: Replayed, served: list[list[ItemId]], answers: dict[str, list[list[ItemId]]], seed: int
) -> Prequential:
    """Return NDCG@10 of what was served and of the live baselines, and the intervals of the differences."""
    groups, events = prequential_groups(world.test), Counter(event.item_id for event in world.train)
    ours = prequential_ndcg(groups, served)
    by_baseline = {name: prequential_ndcg(groups, ranked) for name, ranked in answers.items()}
    users = sorted(ours)
    intervals = {
        name: paired_bootstrap([ours[user] for user in users], [theirs[user] for user in users], seed)
        for name, theirs in by_baseline.items()
        if name in (POPULAR_30D, MARKOV_RECENT)
    }
    baseline, interval = by_baseline.pop(POPULAR_30D), intervals[POPULAR_30D]
    best = world.best_answers(groups, _PREQUENTIAL_N)
    return Prequential(
        users=len(users),
        groups=len(groups),
        ndcg10=_mean(ours),
        baseline_ndcg10=_mean(baseline),
        difference=interval.difference,
        difference_low=interval.low,
        difference_high=interval.high,
        against_markov=intervals[MARKOV_RECENT],
        other_baselines={name: _mean(values) for name, values in by_baseline.items()},
        quality={
            name: prequential_quality(groups, ranked, events, seed)
            for name, ranked in {"served": served, **answers}.items()
        },
        best_possible_ndcg10=None if best is None else _mean(prequential_ndcg(groups, best)),
    )


def _steps(groups: Sequence[Group], shift: Shift) -> list[dict[str, Any]]:
    return [
        {
            "user_id": group.user_id,
            "as_of": shift(group.time),
            "n": _PREQUENTIAL_N,
            "then": [_fed(event, shift) for event in group.events],
        }
        for group in groups
    ]


def _fed(event: InteractionRecord, shift: Shift) -> dict[str, Any]:
    return {"item_id": event.item_id, "kind": event.kind, "happened_at": shift(event.time), "value": event.value}


def _frozen_baselines(train: Sequence[InteractionRecord]) -> dict[str, Baseline]:
    return {
        "popularity": Popularity(train),
        "popularity_7d": RecentPopularity(train, 7),
        POPULAR_30D: RecentPopularity(train, 30),
        "item_knn": ItemKnn(train),
    }


def _live_baselines(train: Sequence[InteractionRecord]) -> dict[str, Baseline]:
    return {
        POPULAR_30D: RecentPopularity(train, 30),
        "popularity": Popularity(train),
        "item_knn": ItemKnn(train),
        "markov": Markov(train),
        MARKOV_RECENT: Product(train, Markov(train), RecentPopularity(train, 30)),
    }


def _mean(values: dict[UserId, float]) -> float:
    return sum(values.values()) / len(values)
