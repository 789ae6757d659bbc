import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bootstrap import bootstrap_mean
from models.leave_one_out import Outcome, Scores, ScoresUnusable, evaluate, first_items, target_ranks
from models.sequences import Questions, Sequences


class Given:
    """Answers fixed scores; the user asked is told apart by the first item of the history."""

    def __init__(self, rows: list[list[float]], kind: type = np.float64) -> None:
        self._scores: Scores = np.array(rows, dtype=kind)

    def scores(self, histories: Sequences) -> Scores:
        users: Scores = self._scores[histories.rows[histories.starts[:-1]]]
        return users


def sequences(*histories: list[int], items: int) -> Sequences:
    starts = np.cumsum([0, *(len(history) for history in histories)])
    return Sequences(items, np.array([row for own in histories for row in own], dtype=np.int32), starts)


def ask(rows: list[list[float]], *histories: list[int], batch: int = 256) -> Outcome:
    whole = sequences(*histories, items=len(rows[0]))
    return evaluate(Given(rows), whole.test(), whole.held_back(1), batch)


def test_a_rank_is_the_better_ones_and_half_of_the_tied_ones() -> None:
    # The history, item 0, does not count although it is best; 1 is better, 3 and 4 tie with the target 2.
    outcome = ask([[9.0, 7.0, 5.0, 5.0, 5.0, 1.0]], [0, 2])
    assert outcome.ranks.tolist() == [2.0]
    assert outcome.hr10.tolist() == [1.0]
    assert outcome.ndcg10.tolist() == [0.5]
    assert outcome.mrr.tolist() == [pytest.approx(1 / 3)]


def test_equal_scores_for_everything_are_the_middle() -> None:
    # 41 items, one in the history: 39 others tie with the target.
    outcome = ask([[1.0] * 41], [0, 40])
    assert outcome.ranks.tolist() == [19.5]
    assert (outcome.hr10.sum(), outcome.ndcg10.sum()) == (0.0, 0.0)


def test_the_tenth_place_is_a_hit_and_the_eleventh_is_none() -> None:
    scores = [float(20 - item) for item in range(20)]
    outcome = ask([scores, scores], [0, 10], [1, 11])
    assert outcome.ranks.tolist() == [9.0, 10.0]
    assert outcome.hr10.tolist() == [1.0, 0.0]
    assert outcome.ndcg10.tolist() == [pytest.approx(1 / math.log2(11)), 0.0]


def test_the_whole_history_is_masked() -> None:
    assert ask([[9.0, 8.0, 7.0, 6.0, 5.0]], [0, 1, 2, 3, 4]).ranks.tolist() == [0.0]


def test_a_target_that_was_in_the_history_is_missed() -> None:
    outcome = ask([[9.0, 8.0]], [0, 1, 0])
    assert (outcome.hr10.tolist(), outcome.ndcg10.tolist(), outcome.mrr.tolist()) == ([0.0], [0.0], [0.0])


def test_a_catalogue_of_one_item_is_answered() -> None:
    only = Questions(sequences([], items=1), np.array([0], dtype=np.int32))

    class One:
        def scores(self, histories: Sequences) -> Scores:
            return np.zeros((1, 1))

    outcome = evaluate(One(), only, sequences([0], items=1))
    assert (outcome.ranks.tolist(), outcome.coverage10, outcome.popularity10) == ([0.0], 1.0, 1.0)


def test_coverage_and_popularity_bias_are_of_what_is_shown() -> None:
    # Ten of the twelve items are shown, all but the history, and the history has all the training events.
    outcome = ask([[float(12 - item) for item in range(12)]], [0, 5, 3])
    assert outcome.coverage10 == pytest.approx(10 / 12)
    assert outcome.popularity10 == 0.0
    # With a second user, items 0, 5, 1 and 2 have a quarter of the training events each, and each user is shown two.
    rows = [[float(12 - item) for item in range(12)]] * 2
    outcome = ask(rows, [0, 5, 3], [1, 2, 3])
    assert outcome.popularity10 == pytest.approx((2 * 0.25 + 2 * 0.25) / 20)


def test_ties_at_the_tenth_place_go_to_the_smaller_row() -> None:
    shown = first_items(np.array([[1.0, 2.0, 1.0, 1.0], [np.nan, np.nan, 0.0, np.nan], [0.0, -np.inf, 5.0, 5.0]]), 2)
    assert [np.flatnonzero(user).tolist() for user in shown] == [[0, 1], [2], [2, 3]]


def test_a_score_that_is_not_a_number_is_an_error_that_names_the_user() -> None:
    rows = [[1.0, 2.0, 3.0], [1.0, math.nan, 3.0]]
    with pytest.raises(ScoresUnusable, match="user 1 as NaN"):
        ask(rows, [0, 2], [1, 2], batch=1)


def test_a_masked_score_that_is_not_a_number_is_an_error_too() -> None:
    with pytest.raises(ScoresUnusable, match="NaN"):
        ask([[math.nan, 2.0, 3.0]], [0, 2])


def test_half_precision_and_a_wrong_shape_are_errors() -> None:
    whole = sequences([0, 1], items=2)
    with pytest.raises(ScoresUnusable, match="float32 or better"):
        evaluate(Given([[1.0, 2.0]], np.float16), whole.test(), whole)
    with pytest.raises(ScoresUnusable, match=r"\[1, 2\] scores, and this one \(1, 3\)"):
        evaluate(Given([[1.0, 2.0, 3.0]]), whole.test(), whole)


def test_nobody_to_ask_is_an_error() -> None:
    nobody = Questions(sequences(items=2), np.array([], dtype=np.int32))
    with pytest.raises(ValueError, match="a user to ask"):
        evaluate(Given([[1.0, 2.0]]), nobody, sequences([0, 1], items=2))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[float]], list[list[int]]]:
    """Scores with many ties, one row for each first item of a history, and histories with their target."""
    items = draw(st.integers(1, 14))
    value = st.sampled_from([0.0, 0.5, 1.0, 2.0, -math.inf, math.inf])
    scores = draw(st.lists(st.lists(value, min_size=items, max_size=items), min_size=items, max_size=items))
    history = st.lists(st.integers(0, items - 1), min_size=2, max_size=8)
    return scores, draw(st.lists(history, min_size=1, max_size=6))


def slow_rank(scores: list[float], history: list[int], target: int) -> float:
    if target in history:
        return math.inf
    rank = 0.0
    for item, score in enumerate(scores):
        if item not in history and item != target:
            rank += 1.0 if score > scores[target] else 0.5 if score == scores[target] else 0.0
    return rank


@given(cases(), st.integers(1, 3))
def test_ranks_are_those_of_counting_item_by_item(case: tuple[list[list[float]], list[list[int]]], batch: int) -> None:
    scores, histories = case
    found = ask(scores, *histories, batch=batch).ranks.tolist()
    assert found == [slow_rank(scores[own[0]], own[:-1], own[-1]) for own in histories]


@given(cases(), st.integers(1, 4))
def test_the_first_items_are_those_of_sorting(case: tuple[list[list[float]], list[list[int]]], k: int) -> None:
    scores, histories = case
    masked = np.array([scores[own[0]] for own in histories])
    for row, own in zip(masked, histories, strict=True):
        row[own[:-1]] = np.nan
    for row, shown in zip(masked, first_items(masked, k), strict=True):
        best = [item for item in np.argsort(-row, kind="stable") if not np.isnan(row[item])]
        assert np.flatnonzero(shown).tolist() == sorted(best[:k])


def test_scores_of_single_precision_rank_alike() -> None:
    scores = np.array([[0.1, 0.3, 0.2]], dtype=np.float32)
    assert target_ranks(scores, np.array([2], dtype=np.int32)).tolist() == [1.0]


def test_the_summary_is_the_means_with_the_intervals_of_the_mean() -> None:
    ranks, new = np.array([0.0, 20.0] * 200), np.array([True, True, False, False] * 100)
    outcome = Outcome(ranks=ranks, new=new, coverage10=0.5, popularity10=0.1)
    summary = outcome.summary(seed=5)
    half = 1.96 * 0.5 / math.sqrt(400)
    assert (summary.hr10.mean, summary.ndcg10.mean) == (0.5, 0.5)
    assert summary.mrr.mean == pytest.approx((1 + 1 / 21) / 2)
    assert summary.hr10.low == pytest.approx(0.5 - half, abs=0.01)
    assert summary.hr10.high == pytest.approx(0.5 + half, abs=0.01)
    assert (summary.coverage10, summary.popularity10) == (0.5, 0.1)
    assert summary.new_recall10 is not None
    assert summary.new_recall10.mean == 0.5


def test_a_target_without_a_training_event_is_a_new_item() -> None:
    whole = sequences([0, 1], [1, 2], items=3)
    outcome = evaluate(Given([[3.0, 1.0, 2.0]] * 3), whole.test(), whole.held_back(1))
    assert outcome.new.tolist() == [False, True]
    summary = outcome.summary()
    assert summary.new_recall10 is not None
    assert summary.new_recall10.mean == 1.0
    known = evaluate(Given([[3.0, 1.0, 2.0]] * 3), whole.test(), whole)
    assert known.summary().new_recall10 is None


def test_a_bootstrap_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one user"):
        bootstrap_mean([], 0)
