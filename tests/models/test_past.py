import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.past import Past

events = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9_999), st.floats(-5, 5)), max_size=40).map(
    lambda rows: (
        tuple(np.array(column) for column in zip(*sorted(rows, key=lambda row: row[1]), strict=True))
        if rows
        else (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    )
)


def before(keys: np.ndarray, times: np.ndarray, event: int) -> list[int]:
    """Events of the same key in earlier seconds, in order."""
    return [e for e in range(len(keys)) if keys[e] == keys[event] and times[e] // 1000 < times[event] // 1000]


@given(events, st.integers(1, 4))
def test_only_earlier_seconds_of_the_same_key_count(rows: tuple[np.ndarray, ...], newest: int) -> None:
    keys, times, values = rows
    past = Past(keys, times)
    found = past.newest(newest)
    for event in range(len(keys)):
        known = before(keys, times, event)
        assert past.count[event] == len(known)
        assert np.isclose(past.total(values)[event], values[known].sum())
        assert np.isclose(past.total(values, newest)[event], values[known[-newest:]].sum())
        assert [e for e in found[event] if e >= 0] == known[: -newest - 1 : -1]
        assert past.first()[event] == (known[0] if known else -1)


@given(events)
def test_events_may_come_in_any_order(rows: tuple[np.ndarray, ...]) -> None:
    keys, times, values = rows
    mixed = np.random.default_rng(0).permutation(len(keys))
    past, other = Past(keys, times), Past(keys[mixed], times[mixed])
    assert (past.count[mixed] == other.count).all()
    assert np.allclose(past.total(values)[mixed], other.total(values[mixed]))
