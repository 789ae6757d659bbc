"""Each baseline by hand on four items."""

import math

import numpy as np
import pytest

from models.ials import Ials
from models.leave_one_out import SequenceRanker, evaluate
from models.sequence_baselines import Ease, ItemKnn, Markov, Popularity, co_occurrences
from models.sequences import Sequences


def sequences(*histories: list[int], items: int = 4) -> Sequences:
    starts = np.cumsum([0, *(len(history) for history in histories)])
    return Sequences(items, np.array([row for own in histories for row in own], dtype=np.int32), starts)


def scores(ranker: SequenceRanker, *history: int) -> list[float]:
    found: list[float] = ranker.scores(sequences(list(history)))[0].tolist()
    return found


def test_popularity_counts_events_whoever_asks() -> None:
    ranker = Popularity(sequences([0, 1], [1, 2], [1]))
    assert ranker.scores(sequences([0], [])).tolist() == [[1, 3, 1, 0]] * 2


def test_co_occurrences_count_users_once() -> None:
    assert co_occurrences(sequences([0, 1, 0], [1, 2], items=3)).tolist() == [[1, 1, 0], [1, 2, 1], [0, 1, 1]]


def test_item_knn_sums_the_cosines_over_the_history() -> None:
    # Item 0 has 2 users, item 1 has 2, item 2 has 1: cos(0,1) = 1/2, cos(0,2) = 1/√2, cos(1,2) = 0.
    ranker = ItemKnn(sequences([0, 1], [0, 2], [1]))
    assert scores(ranker, 0) == pytest.approx([0, 1 / 2, 1 / math.sqrt(2), 0])
    assert scores(ranker, 1, 2) == pytest.approx([1 / 2 + 1 / math.sqrt(2), 0, 0, 0])


def test_item_knn_keeps_the_nearest_of_the_candidate_and_not_of_the_history() -> None:
    # The nearest item of 0 is 2; the nearest of 1 is 0: candidate 1 hears of 0, candidate 0 does not hear of 1.
    ranker = ItemKnn(sequences([0, 1], [0, 2], [1]), k=1)
    assert scores(ranker, 0) == pytest.approx([0, 1 / 2, 1 / math.sqrt(2), 0])
    assert scores(ranker, 1) == pytest.approx([0, 0, 0, 0])


def test_ease_is_its_closed_form() -> None:
    # Gram of [0, 1] and [0]: [[2, 1], [1, 1]]; with λ = 1 the inverse of [[3, 1], [1, 2]] is [[2, -1], [-1, 3]] / 5.
    ranker = Ease(sequences([0, 1], [0], items=2), strength=1.0)
    assert ranker.scores(sequences([0], [1], items=2))[0].tolist() == pytest.approx([0, 1 / 3])
    assert ranker.scores(sequences([1], items=2))[0].tolist() == pytest.approx([1 / 2, 0])


def test_markov_votes_by_distance_and_backs_off_to_the_share_of_targets() -> None:
    # 0 → 1 weighs 1, 0 → 2 a half, 1 → 2 one; of the targets, item 1 has 1 of 2.5 and item 2 has 1.5 of 2.5.
    ranker = Markov(sequences([0, 1, 2]), window=2)
    back_off = [0, 0.01 * 0.4, 0.01 * 0.6, 0]
    assert scores(ranker) == pytest.approx(back_off)
    assert scores(ranker, 0) == pytest.approx([0, 2 / 3 + 0.004, 1 / 3 + 0.006, 0])
    assert scores(ranker, 0, 1) == pytest.approx([0, (2 / 3) / 2 + 0.004, 1 + (1 / 3) / 2 + 0.006, 0])


def test_markov_looks_no_farther_than_its_window_and_never_across_users() -> None:
    ranker = Markov(sequences([0, 1, 2], [3, 0]), window=1)
    assert scores(ranker, 0) == pytest.approx([0.01 / 3, 1 + 0.01 / 3, 0.01 / 3, 0])
    assert scores(ranker, 0, 3) == scores(ranker, 3)


def test_ials_prefers_what_the_same_people_chose() -> None:
    training = sequences(*([[0, 1]] * 20), *([[2, 3]] * 20))
    ranker = Ials(training, factors=4, regularization=0.1, alpha=2.0, seed=1)
    first, second = ranker.scores(sequences([0], [2]))
    assert first[1] > max(first[2], first[3])
    assert second[3] > max(second[0], second[1])
    assert not np.any(ranker.scores(sequences([])))


def test_every_baseline_answers_without_training_events_of_some_items_or_a_history() -> None:
    training = sequences([0, 1], [1, 0])
    for ranker in (Popularity(training), ItemKnn(training), Ease(training), Markov(training)):
        assert np.isfinite(ranker.scores(sequences([], [3]))).all()


def test_order_tells_the_chain_what_sets_cannot() -> None:
    """Users walk round forty items; only the last step says where to, and those who walk back share their sets."""
    seed = 4
    print("seed", seed)  # noqa: T201
    starts = np.random.default_rng(seed).integers(0, 40, 60)
    walks = sequences(*([(int(start) + step) % 40 for step in range(12)] for start in starts), items=40)
    training = walks.training()
    chain = evaluate(Markov(training), walks.test(), training)
    popular = evaluate(Popularity(training), walks.test(), training)
    assert chain.ndcg10.mean() > 0.9
    assert popular.ndcg10.mean() < 0.5
