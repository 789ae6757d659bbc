from collections import Counter

import pytest

from models.baselines import DecayedPopularity, ItemKnn, Markov, Popularity, Product, RecentPopularity
from models.bootstrap import Mean
from models.heldout import (
    frozen_cases,
    frozen_quality,
    prequential_groups,
    prequential_ndcg,
    prequential_quality,
)
from models.metrics import paired_bootstrap
from streaming.dataset import InteractionRecord
from streaming.events import Kind
from streaming.ids import ItemId, UserId
from streaming.movielens import load_movielens_100k

DAY = 24 * 3_600_000


def event(number: int, user: str, item: str, time: int) -> InteractionRecord:
    return InteractionRecord(number, UserId(user), ItemId(item), Kind.CLICK, None, time)


TRAIN = [event(0, "u", "1", 0), event(1, "u", "2", 10_000), event(2, "v", "2", 40 * DAY), event(3, "v", "3", 41 * DAY)]


def test_a_users_targets_are_the_later_items_that_they_had_not_seen() -> None:
    test = [event(4, "u", "3", 42 * DAY), event(5, "u", "1", 42 * DAY), event(6, "w", "1", 43 * DAY)]
    known, new = frozen_cases(TRAIN, test)
    assert (known.user_id, known.targets, known.is_new) == ("u", {"3"}, False)
    assert (new.user_id, new.targets, new.is_new) == ("w", {"1"}, True)


def test_events_of_one_user_and_second_are_one_group() -> None:
    test = [event(4, "u", "3", 5_000), event(5, "w", "9", 5_400), event(6, "u", "4", 5_900), event(7, "u", "5", 6_000)]
    groups = prequential_groups(test)
    assert [(group.user_id, group.time, sorted(group.items)) for group in groups] == [
        ("u", 5_000, ["3", "4"]),
        ("w", 5_000, ["9"]),
        ("u", 6_000, ["5"]),
    ]


def test_prequential_scores_are_means_over_users_of_means_over_groups() -> None:
    groups = prequential_groups([event(4, "u", "3", 5_000), event(5, "u", "4", 6_000), event(6, "w", "9", 7_000)])
    answers = [[ItemId("3")], [ItemId("0")], [ItemId("0"), ItemId("1")]]
    assert prequential_ndcg(groups, answers) == {"u": 0.5, "w": 0.0}


def test_seen_items_in_an_answer_are_counted() -> None:
    cases = frozen_cases(TRAIN, [event(4, "u", "3", 42 * DAY)])
    events = {ItemId("1"): 1, ItemId("2"): 2, ItemId("3"): 1}
    quality = frozen_quality(cases, {UserId("u"): [ItemId("1"), ItemId("3")]}, events)["warm"]
    assert (quality.seen_rate, quality.recall50, quality.coverage10) == (0.5, 1.0, 2 / 3)
    assert quality.intervals["mrr"] == Mean(0.5, 0.5, 0.5)
    assert quality.intervals["popularity10"] == Mean(0.25, 0.25, 0.25)
    assert "new_recall50" not in quality.intervals


def test_prequential_quality_is_by_user_with_new_items_apart() -> None:
    events = {ItemId("1"): 3, ItemId("2"): 1}
    groups = prequential_groups([event(4, "u", "1", 5_000), event(5, "u", "9", 6_000), event(6, "w", "2", 7_000)])
    answers = [[ItemId("1"), ItemId("2")], [ItemId("9")], [ItemId("1")]]
    found = prequential_quality(groups, answers, events)
    assert {name: mean.mean for name, mean in found.items()} == {
        "hr10": 0.5,
        "ndcg10": 0.5,
        "recall10": 0.5,
        "mrr": 0.5,
        "popularity10": pytest.approx(((0.5 + 0.0) / 2 + 0.75) / 2),
        "new_recall10": 1.0,  # of user u alone
    }
    assert (found["hr10"].low, found["hr10"].high) == (0.0, 1.0)


def test_recent_popularity_counts_its_days_only_and_what_was_observed() -> None:
    ranker = RecentPopularity(TRAIN, days=30)
    assert ranker.answer(UserId("x"), 42 * DAY, 3) == ["2", "3", "1"]
    ranker.observe(event(4, "y", "3", 42 * DAY))
    assert ranker.answer(UserId("x"), 42 * DAY + 1, 3) == ["3", "2", "1"]


def test_decayed_popularity_halves_an_event_with_every_half_life_and_counts_what_was_observed() -> None:
    ranker = DecayedPopularity(TRAIN, half_life_days=10)
    # As of day 41 the event of item 3 at that very time does not count; item 2 has one of day 40 and one of day 0.
    expected = [2**-4.1, 2**-0.1 + 2 ** -(4.1 - 10_000 / (10 * DAY)), 0.0]
    assert ranker.scores(UserId("x"), 41 * DAY).tolist() == pytest.approx(expected)
    assert ranker.answer(UserId("x"), 42 * DAY, 3) == ["3", "2", "1"]
    ranker.observe(event(4, "y", "1", 42 * DAY))
    ranker.observe(event(5, "y", "new", 42 * DAY))
    assert ranker.answer(UserId("x"), 42 * DAY + 1, 3) == ["1", "3", "2"]


def test_a_baseline_never_returns_what_was_seen_or_is_not_in_the_catalogue() -> None:
    ranker = Popularity(TRAIN)
    ranker.observe(event(4, "u", "new", 42 * DAY))
    assert ranker.answer(UserId("u"), 42 * DAY, 10) == ["3"]


def test_markov_votes_by_distance() -> None:
    # u went 1 → 2, v went 2 → 3; after 1 comes 2, and 3 only by the back-off.
    assert Markov(TRAIN).answer(UserId("x"), 0, 3)[0] in {"2", "3"}
    ranker = Markov(TRAIN)
    ranker.observe(event(4, "x", "1", 42 * DAY))
    assert ranker.answer(UserId("x"), 0, 2) == ["2", "3"]


def test_on_movielens_the_baselines_give_the_published_figures() -> None:
    """Popularity .150/.287 and 30-day popularity .368 (all users), as others measured on the same split."""
    train, test = load_movielens_100k().split(0.9)
    cases, events = frozen_cases(train, test), Counter(event.item_id for event in train)
    assert (len(cases), sum(case.is_new for case in cases)) == (166, 76)
    found = {}
    for name, ranker in (("popularity", Popularity(train)), ("30 days", RecentPopularity(train, 30))):
        answers = {case.user_id: ranker.answer(case.user_id, test[0].time, 50) for case in cases}
        found[name] = frozen_quality(cases, answers, events)
    assert round(found["popularity"]["warm"].ndcg10, 3) == 0.150
    assert round(found["popularity"]["all"].ndcg10, 3) == 0.287
    assert round(found["30 days"]["all"].ndcg10, 3) == 0.368


def test_item_knn_prefers_what_the_same_people_chose() -> None:
    train = [
        event(0, "a", "1", 0),
        event(1, "a", "2", 1),
        event(2, "b", "1", 2),
        event(3, "b", "2", 3),
        event(4, "c", "3", 4),
    ]
    ranker = ItemKnn(train)
    ranker.observe(event(5, "d", "1", 5))
    assert ranker.answer(UserId("d"), 6, 1) == ["2"]


def test_on_movielens_markov_times_recent_popularity_beats_recent_popularity() -> None:
    train, test = load_movielens_100k().split(0.9)
    groups = prequential_groups(test)[:600]
    rankers = [RecentPopularity(train, 30), Product(train, Markov(train), RecentPopularity(train, 30))]
    by_ranker = []
    for ranker in rankers:
        answers = []
        for group in groups:
            answers.append(ranker.answer(group.user_id, group.time, 10))
            for own in group.events:
                ranker.observe(own)
        by_ranker.append(prequential_ndcg(groups, answers))
    popular, product = ([values[user] for user in by_ranker[0]] for values in by_ranker)
    assert paired_bootstrap(product, popular, seed=1).difference > 0
