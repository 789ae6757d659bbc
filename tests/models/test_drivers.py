"""Which item of a history speaks most for an item, against sums written out one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.drivers import nearest, strongest_voters
from models.neighbours import Neighbours


@given(seed=st.integers(0, 2**32), items=st.integers(1, 12), length=st.integers(0, 8), count=st.integers(0, 6))
def test_the_strongest_voter_is_the_one_whose_votes_sum_highest(seed: int, items: int, length: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    width = min(items, 4)
    rows = np.stack([rng.permutation(items)[:width] for _ in range(items)]).astype(np.int32)
    weights = rng.integers(0, 3, rows.shape).astype(np.float32)
    history = rng.integers(0, items + 2, length)  # some are newer than the table
    fading = (1 / np.arange(1, length + 1)).astype(np.float32)
    asked = rng.permutation(items + 2)[:count]
    found = strongest_voters(Neighbours(rows, weights), history, fading, asked).tolist()
    for row, voter in zip(asked.tolist(), found, strict=True):
        votes = [
            sum(float(weights[one, place] * fade) for place in range(width) if rows[one, place] == row)
            if one < items
            else 0.0
            for one, fade in zip(history.tolist(), fading, strict=True)
        ]
        if max(votes, default=0.0) == 0:
            assert voter == -1
        else:
            assert votes[history.tolist().index(voter)] == max(votes)


def test_the_nearest_is_by_angle_and_not_by_length() -> None:
    history = np.array([[10, 9], [0.1, 0], [0, 0]], dtype=np.float32)
    items = np.array([[1, 0], [1, 1], [5, 4.6]], dtype=np.float32)
    assert nearest(history, items).tolist() == [1, 0, 0]
