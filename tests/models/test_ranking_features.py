import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.popularity import PopularityWindow
from models.neighbours import Neighbours
from models.ranking_features import (
    NEIGHBOUR_TABLES,
    Recent,
    Shortlist,
    Sources,
    UserValues,
    dense_features,
    feature_names,
    popularity_counts,
)
from models.spec import ContentSpec, Number
from models.tables import GrowingTable

DAY_MS = 86_400_000
NOW = 20_000 * DAY_MS
SPEC = ContentSpec(("x", "y"), (Number("year", 1990.0, 10.0),))
TRAINED = 3


def sources() -> Sources:
    """Item 0 is followed by item 1 (0.6) and item 2 (0.4); item 3 was added later."""
    table = Neighbours(
        np.array([[1, 2], [0, 0], [0, 0]], dtype=np.int32), np.array([[0.6, 0.4], [0, 0], [0, 0]], dtype=np.float32)
    )
    content = GrowingTable(np.array([[1, 0, 0.5], [0, 1, -0.5], [1, 0, 1.5]], dtype=np.float32))
    content.put(3, [0, 1, 0])
    return Sources(SPEC, content, dict.fromkeys(NEIGHBOUR_TABLES, table))


def shortlist(rows: list[int]) -> Shortlist:
    count = len(rows)
    return Shortlist(
        np.array(rows),
        np.full(count, 9.0, np.float32),
        np.full(count, 3.5, np.float32),
        np.arange(count, dtype=np.float32),
    )


def popularity() -> PopularityWindow:
    window = PopularityWindow(4)
    window.observe(np.array([1, 1, 1, 2]), NOW - np.array([1, 3, 20, 20]) * DAY_MS)
    return window


def named(recent: Recent, user: UserValues, rows: list[int]) -> dict[str, list[float]]:
    counts = popularity_counts(popularity(), NOW, 4)
    table = dense_features(sources(), recent, user, shortlist(rows), counts)
    return dict(zip(feature_names(SPEC), table.T.tolist(), strict=True))


def test_the_features_of_two_candidates_by_hand() -> None:
    recent = Recent(np.array([2, 0]), size=3, gap_s=90.0)
    found = named(recent, UserValues(7.0, None), [1, 3])
    expected = {
        "popularity_1d": np.log([1.5, 0.5]),
        "popularity_7d": np.log([2.5, 0.5]),
        "popularity_30d": np.log([3.5, 0.5]),
        "popularity_share_30d": np.log([3 / 5 + 1e-3, 1e-3]),
        "trend_7d_30d": np.log([2.5 / 3.5, 1.0]),
        "interactions_total": np.log([10.0, 10.0]),
        "is_known": [1, 0],
        "last_step": np.log([0.61, 0.01]),
        "steps": np.log([0.61, 0.01]),  # the second last item, 2, votes for nothing
        "steps_raw": [6, 0],
        "alike": [3, 0],  # the mean over two items, times ten
        "categories": [0, 0],  # the history is all x, both candidates are y
        "sequence": [0, 1],
        "number.year": [-0.5, 0],
        "distance.year": [-1.5, -1.0],  # from the history's mean, 1.0
        "history_size": np.log([4.0, 4.0]),
        "gap_below_minute": [0, 0],
        "gap_above_hour": [0, 0],
        "user_known": [1, 1],
        "user_interactions_total": np.log([8.0, 8.0]),
        "user_mean_value": [0, 0],
    }
    for name, values in expected.items():
        assert found[name] == pytest.approx(list(values), abs=1e-6), name


def test_a_last_vote_counts_more_than_one_before_it() -> None:
    last = named(Recent(np.array([2, 0]), 2, 0.0), UserValues(None, None), [1])
    before = named(Recent(np.array([0, 2]), 2, 0.0), UserValues(None, None), [1])
    assert last["steps_raw"] == pytest.approx([6.0])
    assert before["steps_raw"] == pytest.approx([3.0])


@given(
    history=st.lists(st.integers(0, 3), max_size=60),
    gap=st.floats(-1e6, 1e12),
    total=st.none() | st.floats(0, 1e12),
    value=st.none() | st.floats(-1e6, 1e6),
    rows=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
)
def test_every_feature_is_finite(
    history: list[int], gap: float, total: float | None, value: float | None, rows: list[int]
) -> None:
    recent = Recent(np.array(history, dtype=np.int64), len(history), gap)
    counts = popularity_counts(popularity(), NOW, 4)
    table = dense_features(sources(), recent, UserValues(total, value), shortlist(rows), counts)
    assert np.isfinite(table).all()
    assert table.dtype == np.float32


@pytest.mark.parametrize("absent", [{}, {"mean_value": "text"}, {"mean_value": float("nan")}])
def test_a_user_value_that_is_no_number_counts_as_absent(absent: dict[str, float | str]) -> None:
    assert UserValues.of({**absent, "interactions_total": 3}) == UserValues(3.0, None)
