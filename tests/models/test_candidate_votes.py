"""A history's votes for candidates by hand, and against adding up every single one."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.candidate_votes import Electorate, Places, votes_for
from models.neighbours import FittedNeighbours, Neighbours, stacked, unstacked
from models.row_file import RowFile

ONE = Neighbours(
    np.array([[3, 1], [2, 3], [0, 1]], dtype=np.int32), np.array([[1, 2], [4, 8], [16, 32]], dtype=np.float32)
)
OTHER = Neighbours(np.array([[1, 2], [3, 0]], dtype=np.int32), np.array([[1, 1], [2, 2]], dtype=np.float32))


def test_votes_by_two_tables_add_up_by_kind_and_those_for_others_are_left_out() -> None:
    history = np.array([1, 4, 0])  # item 4 is in no table
    electorate = Electorate(
        history, [(ONE, 3), (OTHER, 2)], np.array([[1, 1, 10, 0, 0], [0, 0, 0, 1, 1]], dtype=np.float32)
    )
    with Places().of(np.array([3, 1]), 5) as places:
        assert votes_for(electorate, places, 2).tolist() == [[18, 20], [2, 0]]


def test_tables_in_one_file_give_the_votes_that_they_give_in_memory(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    fitted = [
        FittedNeighbours(rng.integers(0, 9, (7, 4)).astype(np.int32), rng.random((7, 4)).astype(np.float32))
        for _ in range(3)
    ]
    np.save(tmp_path / "tables.npy", stacked(fitted))
    filed = unstacked(RowFile[np.int32](tmp_path / "tables.npy"), 3)
    history, lasts = np.array([6, 8, 0, 3, 2]), (2, 5, 4)  # item 8 is in no table
    weights = rng.random((2, sum(lasts))).astype(np.float32)
    votes = []
    for tables in (fitted, filed):
        electorate = Electorate(history, list(zip(tables, lasts, strict=True)), weights)
        with Places().of(np.arange(9), 9) as places:
            votes.append(votes_for(electorate, places, 9))
    assert votes[0].any()
    assert votes[0].tolist() == votes[1].tolist()


def test_candidates_are_found_anew_for_each_query() -> None:
    finder = Places()
    with finder.of(np.array([2, 0]), 3) as places:
        assert places[:3].tolist() == [2, 0, 1]
    with finder.of(np.array([1]), 3) as places:
        assert places[:3].tolist() == [0, 1, 0]


@given(
    history=st.lists(st.integers(0, 5), max_size=6),
    candidates=st.lists(st.integers(0, 5), unique=True),
    seed=st.integers(0, 9),
)
def test_votes_are_those_of_adding_up_every_single_one(history: list[int], candidates: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = np.array([rng.choice(6, 3, replace=False) for _ in range(4)], dtype=np.int32)
    table = Neighbours(rows, rng.integers(0, 9, (4, 3)).astype(np.float32))
    weights = rng.integers(0, 9, (2, len(history))).astype(np.float32)
    expected = np.zeros((2, len(candidates)))
    for place, item in enumerate(history):
        for neighbour, strength in zip(rows[item], table.weights[item], strict=True) if item < 4 else ():
            if neighbour in candidates:
                expected[:, candidates.index(neighbour)] += weights[:, place] * strength
    electorate = Electorate(np.array(history, dtype=np.int64), [(table, len(history))], weights)
    with Places().of(np.array(candidates, dtype=np.int64), 6) as places:
        assert votes_for(electorate, places, len(candidates)).tolist() == expected.tolist()
