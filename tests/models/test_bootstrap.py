import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.bootstrap import bootstrap_ratio

SEED = 4


def test_the_interval_of_rows_by_user_is_that_of_linearisation() -> None:
    print("seed", SEED)  # noqa: T201
    rng = np.random.default_rng(SEED)
    counts = rng.integers(1, 200, 400)
    totals = counts * rng.normal(0.1, 0.5, 400)
    found = bootstrap_ratio(totals, counts, SEED)
    mean = totals.sum() / counts.sum()
    error = np.sqrt(((totals - mean * counts) ** 2).sum()) / counts.sum()
    assert found.mean == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.15 * error)


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 9)), min_size=1, max_size=20))
def test_the_mean_of_all_rows_lies_among_the_users_means(rows: list[tuple[float, int]]) -> None:
    totals, counts = [mean * count for mean, count in rows], [count for _, count in rows]
    found = bootstrap_ratio(totals, counts, SEED, draws=20)
    means = [mean for mean, _ in rows]
    assert min(means) - 1e-9 <= found.low <= found.high <= max(means) + 1e-9
    assert found.mean == pytest.approx(np.average(means, weights=counts))


@pytest.mark.parametrize(("totals", "counts"), [([], []), ([1.0], [0]), ([1.0, 2.0], [1])])
def test_users_without_rows_are_an_error(totals: list[float], counts: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one user"):
        bootstrap_ratio(totals, counts, SEED)
