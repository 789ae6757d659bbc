"""The slate's exploration: what is drawn, and that the logged probabilities are those of the draw."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommend.slate import draw
from services.recommend.surfaces import BUILT_IN, Exploration

DRAWS = 100_000


def rows(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int64)


def plackett_luce(slate: tuple[int, ...], pool: tuple[int, ...], temperature: float) -> float:
    """The textbook formula, one slot after another."""
    weight = {row: (rank + 1) ** (-1 / temperature) for rank, row in enumerate(pool)}
    left, probability = sum(weight.values()), 1.0
    for row in slate:
        probability *= weight[row] / left
        left -= weight[row]
    return probability


def test_the_logged_propensities_are_the_frequencies_of_100_000_draws() -> None:
    seed = 20261125
    print("seed", seed)  # noqa: T201 - pytest shows it when the test fails
    exploration = Exploration(temperature=0.8, fixed_slots=1, pool=4, new_slots=1, new_slots_from=4)
    ranked, unproven = rows(10, 20, 30, 40, 50), rows(50, 60, 70)
    rng = np.random.default_rng(seed)
    seen: Counter[tuple[int, ...]] = Counter()
    logged: dict[tuple[int, ...], float] = {}
    for _ in range(DRAWS):
        drawn = draw(ranked, unproven, 4, exploration, rng)
        slate = tuple(drawn.rows.tolist())
        seen[slate] += 1
        logged[slate] = float(np.prod(drawn.propensities))
    expected: dict[tuple[int, ...], float] = {}
    for middle in permutations((20, 30, 40, 50), 2):
        waiting = [row for row in (50, 60, 70) if row not in middle]
        for last in waiting:
            expected[10, *middle, last] = plackett_luce(middle, (20, 30, 40, 50), 0.8) / len(waiting)
    assert sum(expected.values()) == pytest.approx(1)
    assert set(seen) <= set(expected)
    for slate, probability in expected.items():
        if slate in logged:
            assert logged[slate] == pytest.approx(probability, rel=1e-9)
        tolerance = 5 * np.sqrt(probability * (1 - probability) / DRAWS) + 1 / DRAWS
        assert seen[slate] / DRAWS == pytest.approx(probability, abs=tolerance), slate


def test_without_exploration_the_ranked_order_is_shown_with_probability_one() -> None:
    for name, rng in (("home", None), ("probe", np.random.default_rng(1))):
        drawn = draw(rows(5, 3, 9, 1), rows(1), 3, BUILT_IN[name].exploration, rng)
        assert drawn.rows.tolist() == [5, 3, 9]
        assert drawn.propensities.tolist() == [1, 1, 1]


def test_fixed_slots_keep_their_items_and_carry_probability_one() -> None:
    drawn = draw(np.arange(30), rows(), 10, Exploration(temperature=1.0, fixed_slots=2), np.random.default_rng(3))
    assert drawn.rows[:2].tolist() == [0, 1]
    assert drawn.propensities[:2].tolist() == [1, 1]
    assert (drawn.propensities[2:] < 1).all()


def test_the_same_seed_draws_the_same_slate() -> None:
    first, second = (
        draw(np.arange(200), np.arange(150, 220), 20, BUILT_IN["home"].exploration, np.random.default_rng(7))
        for _ in range(2)
    )
    assert first.rows.tolist() == second.rows.tolist()
    assert first.propensities.tolist() == second.propensities.tolist()


@given(
    count=st.integers(0, 40),
    fresh=st.integers(0, 10),
    n=st.integers(1, 30),
    exploration=st.builds(
        Exploration,
        temperature=st.sampled_from((0.0, 0.05, 0.5, 3.0)),
        fixed_slots=st.integers(0, 35),
        pool=st.integers(1, 50),
        new_slots=st.integers(0, 3),
        new_slots_from=st.integers(1, 10),
    ),
    seed=st.integers(0, 2**32),
)
def test_a_slate_is_full_without_repeats_and_its_probabilities_are_positive(
    count: int, fresh: int, n: int, exploration: Exploration, seed: int
) -> None:
    ranked = np.arange(count)
    unproven = np.arange(max(0, count - 3), count + fresh)
    drawn = draw(ranked, unproven, n, exploration, np.random.default_rng(seed))
    shown = drawn.rows.tolist()
    assert len(shown) == len(set(shown)) == len(drawn.propensities)
    assert len(shown) >= min(n, count)
    assert len(shown) <= n
    assert set(shown) <= set(ranked.tolist()) | set(unproven.tolist())
    assert (drawn.propensities > 0).all()
    assert (drawn.propensities <= 1).all()
