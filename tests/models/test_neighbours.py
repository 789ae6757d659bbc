"""Co-visits by hand: two users over five items, the second one with two events in one second."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.covisits import fit_neighbours
from models.log import KINDS, Log
from models.neighbours import Neighbours, Votes
from models.ranking_features import ACROSS, ALIKE, STEPS, WIDE
from streaming.events import Kind

CLICK, HIDE = KINDS.index(Kind.CLICK), KINDS.index(Kind.HIDE)


def log() -> Log:
    return Log(
        users=np.array([0, 0, 0, 0, 1, 1, 1]),
        rows=np.array([0, 1, 4, 2, 0, 2, 1]),
        times=np.array([1_000, 2_000, 2_500, 9_000, 1_000, 5_000, 5_900]),
        kinds=np.array([CLICK, CLICK, HIDE, CLICK, CLICK, CLICK, CLICK]),
        starts=np.array([0, 4, 7]),
    )


def row(table: Neighbours, item: int) -> dict[int, float]:
    pairs = zip(table.rows[item].tolist(), table.weights[item].tolist(), strict=True)
    return {neighbour: pytest.approx(weight) for neighbour, weight in pairs if weight > 0}


def test_steps_weigh_one_over_their_distance_and_rows_add_up_to_one() -> None:
    steps = fit_neighbours(log(), 5, 3)[STEPS]
    # User 0: 0→1, 1→2 at distance 1, 0→2 at 2, the hidden item 4 left out. User 1: 0→2 at 1, 0→1 at 2, and 2, 1 share a
    # second, so 1→2 and 2→1.
    assert row(steps, 0) == {1: 0.5, 2: 0.5}
    assert row(steps, 1) == {2: 1.0}
    assert row(steps, 2) == {1: 1.0}
    assert row(steps, 4) == {}


def test_across_leaves_out_what_shares_a_second() -> None:
    across = fit_neighbours(log(), 5, 3)[ACROSS]
    assert row(across, 1) == {2: 1.0}
    assert row(across, 2) == {}


def test_wide_transitions_of_rare_items_are_shrunk() -> None:
    wide = fit_neighbours(log(), 5, 3)[WIDE]
    assert row(wide, 2) == {1: 1 / 11}
    assert row(wide, 1) == {2: 2 / 12}


def test_similarity_is_the_shrunk_cosine_of_the_sets_of_users() -> None:
    alike = fit_neighbours(log(), 5, 3)[ALIKE]
    assert row(alike, 0) == {1: 2 / 22, 2: 2 / 22}
    assert row(alike, 3) == {}


def test_only_the_strongest_neighbours_are_kept_ties_by_row() -> None:
    steps = fit_neighbours(log(), 5, 1)[STEPS]
    assert row(steps, 0) == {1: 0.5}


def test_votes_for_one_item_add_up() -> None:
    votes = Votes(np.array([3, 1, 3, 2], dtype=np.int32), np.array([1, 2, 4, 8], dtype=np.float32))
    rows, weights = votes.best(2)
    assert (rows.tolist(), weights.tolist()) == ([2, 3], [8, 5])


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), max_size=40), st.integers(1, 15))
def test_the_best_voted_are_those_of_sorting_all_sums(cast: list[tuple[int, int]], k: int) -> None:
    table = np.array(cast, dtype=np.int32).reshape(-1, 2)
    sums = np.zeros(13)
    for row, weight in cast:
        sums[row] += weight
    expected = [row for row in np.argsort(-sums, kind="stable").tolist() if sums[row] > 0][:k]
    rows, weights = Votes(table[:, 0], table[:, 1].astype(np.float32)).best(k)
    assert rows.tolist() == expected
    assert weights.tolist() == sums[expected].tolist()
