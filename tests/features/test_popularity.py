import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import popularity as popularity_module
from features.popularity import DAY_MS, PopularityWindow

HOUR_MS = DAY_MS // 24
START = 20_000 * DAY_MS  # midnight

Event = tuple[int, int]  # row, hours since START
events = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 24 * 30)), max_size=40)


def window(seen: list[Event], days: int = 45) -> PopularityWindow:
    popularity = PopularityWindow(days=days)
    observe(popularity, seen)
    return popularity


def observe(popularity: PopularityWindow, seen: list[Event]) -> None:
    table = np.array(seen, dtype=np.int64).reshape(-1, 2)
    popularity.observe(table[:, 0], START + table[:, 1] * HOUR_MS)


def counts(popularity: PopularityWindow, hours: int, days: int) -> list[int]:
    return popularity.counts(START + hours * HOUR_MS, days).tolist()


def test_a_window_counts_its_days_and_not_those_before() -> None:
    popularity = window([(0, 1), (0, 30), (2, 30), (1, 24 * 8)])
    assert counts(popularity, 24 * 8 + 1, 1) == [0, 1, 0]
    assert counts(popularity, 24 * 8 + 1, 7) == [1, 1, 1]
    assert counts(popularity, 24 * 8 + 1, 30) == [2, 1, 1]


def test_a_window_ends_with_the_day_of_asking() -> None:
    popularity = window([(0, 1), (0, 49)])
    assert counts(popularity, 26, 7) == [1]


def test_what_is_older_than_the_days_kept_is_gone() -> None:
    popularity = window([(0, 0)], days=10)
    observe(popularity, [(1, 24 * 10)])
    assert counts(popularity, 24 * 10, 10) == [0, 1]
    observe(popularity, [(0, 0)])
    assert counts(popularity, 24 * 10, 10) == [0, 1]


def test_more_days_than_are_kept_are_refused() -> None:
    with pytest.raises(ValueError, match="between 1 and the 10"):
        window([(0, 0)], days=10).counts(START, 11)


def test_an_empty_window_counts_nothing() -> None:
    assert PopularityWindow(3).counts(START, 7).tolist() == [0, 0, 0]


@given(events, st.integers(0, 40), st.integers(0, 24 * 31), st.integers(1, 30))
def test_neither_order_nor_grouping_of_the_events_matters(seen: list[Event], cut: int, hours: int, days: int) -> None:
    at_once = window(seen)
    in_parts = PopularityWindow()
    observe(in_parts, seen[cut:][::-1])
    in_parts.counts(START + hours * HOUR_MS, days)  # what was asked before must not matter either
    observe(in_parts, seen[:cut])
    assert counts(in_parts, hours, days) == counts(at_once, hours, days)


@given(events, st.integers(0, 24 * 31), st.integers(1, 30))
def test_counts_are_those_of_counting_by_hand(seen: list[Event], hours: int, days: int) -> None:
    first, last = round(hours / 24) - days, hours // 24
    expected = [0] * (max((row for row, _ in seen), default=-1) + 1)
    for row, hour in seen:
        expected[row] += first <= hour // 24 <= last
    assert counts(window(seen), hours, days) == expected


@given(events, events)
def test_a_copy_and_its_original_go_separate_ways(seen: list[Event], more: list[Event]) -> None:
    original = window(seen)
    copy = original.copy()
    observe(copy, more)
    assert counts(original, 24 * 30, 30) == counts(window(seen), 24 * 30, 30)
    assert counts(copy, 24 * 30, 30) == counts(window(seen + more), 24 * 30, 30)


def test_remapping_moves_adds_and_drops_rows() -> None:
    popularity = window([(0, 0), (1, 0), (1, 0), (2, 0), (3, 0)])
    moved = popularity.remapped(np.array([4, 0, 0]), 5)  # row 3 is not covered
    assert counts(moved, 1, 7) == [3, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="below 5"):
        popularity.remapped(np.array([5]), 5)


def test_counts_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        window([(0, 0)]).counts(START, 7)[0] = 9


@given(events, st.lists(events, max_size=4), st.integers(0, 24 * 31), st.integers(1, 30), st.integers(1, 3))
def test_leaders_are_all_rows_used_as_often_as_the_least_of_them(
    seen: list[Event], more: list[list[Event]], hours: int, days: int, enough: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(popularity_module, "_LEADERS", 2)
        patch.setattr(popularity_module, "_ENOUGH", enough)
        popularity = window(seen)
        for some in ([], *more):
            observe(popularity, some)
            found = popularity.leaders(START + hours * HOUR_MS, days)
            used = np.array(counts(popularity, hours, days))
            assert found.rows.tolist() == np.flatnonzero(used >= found.least).tolist()
            assert len(found.rows) >= min(enough, 2, np.count_nonzero(used))
