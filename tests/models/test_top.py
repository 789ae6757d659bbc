import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.top import best


@given(st.lists(st.integers(-3, 3), max_size=30), st.integers(-1, 40))
def test_the_best_are_those_of_a_stable_sort(values: list[int], k: int) -> None:
    for dtype in (np.int64, np.float32):
        array = np.array(values, dtype=dtype)
        assert best(array, k).tolist() == np.argsort(-array, kind="stable")[: max(k, 0)].tolist()
