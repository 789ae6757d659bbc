import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.metrics import hit_rate, ndcg, paired_bootstrap, recall
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


def test_a_user_without_targets_is_an_error() -> None:
    for metric in (ndcg, hit_rate, recall):
        with pytest.raises(ValueError, match="without targets"):
            metric(items("abc"), set(), 10)


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
