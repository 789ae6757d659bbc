"""The metrics against worked examples and against a computation that shares nothing with them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import (
    coverage,
    hit_of,
    hit_rate,
    ndcg,
    ndcg_of,
    paired_bootstrap,
    popularity_bias,
    ranks_by,
    ranks_in,
    recall,
    recall_of,
    reciprocal_rank_of,
)
from streaming.ids import ItemId


def items(text: str) -> list[ItemId]:
    return [ItemId(letter) for letter in text]


def test_ndcg_of_a_worked_example() -> None:
    # Hits at positions 1 and 3 of three targets: (1/log2 3 + 1/log2 5) / (1 + 1/log2 3 + 1/2).
    expected = (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 0.5)
    assert ndcg(items("abcd"), set(items("bdz")), 10) == pytest.approx(expected)


def test_the_ideal_of_more_targets_than_places_is_full_places() -> None:
    assert ndcg(items("abc"), set(items("abcdef")), 3) == pytest.approx(1.0)


def test_a_hit_beyond_k_does_not_count() -> None:
    assert hit_rate(items("abc"), set(items("c")), 2) == 0.0
    assert hit_rate(items("abc"), set(items("c")), 3) == 1.0
    assert recall(items("abc"), set(items("cxyz")), 3) == 0.25


def test_the_reciprocal_rank_is_that_of_the_first_target() -> None:
    assert reciprocal_rank_of(ranks_in(items("abcd"), set(items("cd")))) == pytest.approx(1 / 3)
    assert reciprocal_rank_of(ranks_in(items("abcd"), set(items("z")))) == 0.0


def test_a_user_without_targets_is_an_error() -> None:
    for metric in (ndcg, hit_rate, recall):
        with pytest.raises(ValueError, match="without targets"):
            metric(items("abc"), set(), 10)
    with pytest.raises(ValueError, match="without targets"):
        ranks_by(np.zeros(3), np.zeros(0, dtype=np.int64))


def test_ties_with_what_is_wrong_are_averaged_and_targets_do_not_compete_with_each_other() -> None:
    # Item 0 is better; items 1, 2, 3 tie and 1 and 3 are targets: 1 better + half of item 2, then one target on.
    assert ranks_by(np.array([9.0, 5.0, 5.0, 5.0, 1.0]), np.array([3, 1])).tolist() == [1.5, 2.5]
    assert ranks_by(np.array([9.0, 5.0, 5.0, 8.0, 1.0]), np.array([1, 3, 4])).tolist() == [2.5, 1.0, 4.0]
    # Everything is right and everything ties: the ideal order all the same.
    assert ranks_by(np.zeros(3), np.arange(3)).tolist() == [0.0, 1.0, 2.0]


def test_a_masked_item_has_no_rank_and_takes_no_place() -> None:
    assert ranks_by(np.array([math.nan, 3.0, math.nan, 2.0]), np.array([3, 0])).tolist() == [1.0, math.inf]


def test_coverage_and_popularity_bias_of_a_worked_example() -> None:
    # Item 0 was shown twice and has 3 of 4 training events, item 1 once and has 1, item 2 never.
    assert coverage([2, 1, 0]) == pytest.approx(2 / 3)
    assert popularity_bias([2, 1, 0], [3, 1, 0]) == pytest.approx((2 * 3 / 4 + 1 / 4) / 3)
    assert (coverage([]), popularity_bias([0, 0], [1, 1]), popularity_bias([1, 1], [0, 0])) == (0.0, 0.0, 0.0)


ranking = st.permutations("abcdefghij").map(lambda letters: items("".join(letters)))
some = st.sets(st.sampled_from("abcdefghijxyz"), min_size=1).map(lambda letters: {ItemId(letter) for letter in letters})


@given(ranking, some)
def test_ndcg_lies_between_none_and_all_and_never_falls_when_a_hit_moves_up(
    ranked: list[ItemId], targets: set[ItemId]
) -> None:
    value = ndcg(ranked, targets, 10)
    assert 0.0 <= value <= 1.0 + 1e-12
    best_first = sorted(ranked, key=lambda item: item not in targets)
    assert ndcg(best_first, targets, 10) >= value - 1e-12


def walk(ranked: list[ItemId], targets: set[ItemId], k: int) -> tuple[float, float, float, float]:
    """HR@k, NDCG@k, recall@k and MRR by going down the list item by item."""
    found, gain, first = 0, 0.0, 0.0
    for place in range(1, len(ranked) + 1):
        if ranked[place - 1] not in targets:
            continue
        first = first or 1 / place
        if place <= k:
            found += 1
            gain += math.log(2) / math.log(place + 1)
    ideal = 0.0
    for place in range(1, min(k, len(targets)) + 1):
        ideal += math.log(2) / math.log(place + 1)
    return float(found > 0), gain / ideal, found / len(targets), first


@given(ranking, some, st.integers(1, 12))
def test_the_metrics_are_those_of_walking_down_the_list(ranked: list[ItemId], targets: set[ItemId], k: int) -> None:
    ranks = ranks_in(ranked, targets)
    found = hit_of(ranks, k), ndcg_of(ranks, k), recall_of(ranks, k), reciprocal_rank_of(ranks)
    assert found == pytest.approx(walk(ranked, targets, k))
    assert found[:3] == (hit_rate(ranked, targets, k), ndcg(ranked, targets, k), recall(ranked, targets, k))


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties and masked items, and distinct targets."""
    value = st.sampled_from([0.0, 0.5, 1.0, -math.inf, math.inf, math.nan])
    scores = np.array(draw(st.lists(value, min_size=1, max_size=14)))
    return scores, np.array(draw(st.permutations(range(len(scores)))))[: draw(st.integers(1, len(scores)))]


@given(scored())
def test_ranks_by_scores_are_those_of_counting_item_by_item(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, targets = case
    wrong = [scores[item] for item in range(len(scores)) if item not in targets and not math.isnan(scores[item])]
    expected = []
    for target in sorted(targets, key=lambda item: -scores[item]):
        if not math.isnan(scores[target]):
            better = sum(score > scores[target] for score in wrong)
            tied = sum(score == scores[target] for score in wrong)
            expected.append(better + tied / 2)
    expected = [rank + before for before, rank in enumerate(sorted(expected))]
    assert sorted(ranks_by(scores, targets)) == expected + [math.inf] * (len(targets) - len(expected))


@given(scored())
def test_ranks_come_in_the_order_of_the_targets_and_the_better_scored_target_first(
    case: tuple[np.ndarray, np.ndarray],
) -> None:
    scores, targets = case
    ranks = ranks_by(scores, targets)
    for one, own in zip(targets, ranks, strict=True):
        for other, theirs in zip(targets, ranks, strict=True):
            if scores[one] > scores[other]:
                assert own < theirs


@given(scored(), st.integers(1, 14))
def test_no_tie_gives_more_than_the_ideal(case: tuple[np.ndarray, np.ndarray], k: int) -> None:
    assert ndcg_of(ranks_by(*case), k) <= 1.0 + 1e-12


@given(st.permutations(range(10)), st.sets(st.integers(0, 9), min_size=1))
def test_without_ties_ranks_by_scores_are_places_in_the_sorted_list(order: list[int], targets: set[int]) -> None:
    scores = np.zeros(10)
    scores[order] = np.arange(10, 0, -1)
    by_list = ranks_in([ItemId(str(item)) for item in order], [ItemId(str(item)) for item in sorted(targets)])
    assert ranks_by(scores, np.array(sorted(targets))).tolist() == by_list.tolist()


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    seed = 3
    print("seed", seed)  # noqa: T201
    rng = np.random.default_rng(seed)
    ours, theirs = rng.normal(1.0, 2.0, 400), rng.normal(0.5, 2.0, 400)
    interval = paired_bootstrap(ours, theirs, seed)
    difference = ours - theirs
    half = 1.96 * difference.std(ddof=1) / math.sqrt(400)
    assert interval.difference == pytest.approx(difference.mean())
    assert interval.low == pytest.approx(difference.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(difference.mean() + half, abs=0.03)


def test_the_bootstrap_refuses_what_is_not_paired() -> None:
    with pytest.raises(ValueError, match="paired bootstrap"):
        paired_bootstrap([], [], 0)
