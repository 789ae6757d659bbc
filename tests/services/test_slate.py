"""The slate's exploration: what is drawn, and that the logged probabilities are those of the draw."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.recommend.caps import Groups
from services.recommend.contest import Contest
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
        drawn = draw(Contest(ranked, unproven), 4, exploration, rng)
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
        drawn = draw(Contest(rows(5, 3, 9, 1), rows(1)), 3, BUILT_IN[name].exploration, rng)
        assert drawn.rows.tolist() == [5, 3, 9]
        assert drawn.propensities.tolist() == [1, 1, 1]
        assert drawn.fixed.all()
        assert drawn.policy == "ranked"


def test_fixed_slots_keep_their_items_and_carry_probability_one() -> None:
    drawn = draw(
        Contest(np.arange(30), rows()), 10, Exploration(temperature=1.0, fixed_slots=2), np.random.default_rng(3)
    )
    assert drawn.rows[:2].tolist() == [0, 1]
    assert drawn.propensities[:2].tolist() == [1, 1]
    assert (drawn.propensities[2:] < 1).all()
    assert drawn.fixed.tolist() == [True] * 2 + [False] * 8


def test_the_same_seed_draws_the_same_slate() -> None:
    first, second = (
        draw(Contest(np.arange(200), np.arange(150, 220)), 20, BUILT_IN["home"].exploration, np.random.default_rng(7))
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
    drawn = draw(Contest(ranked, unproven), n, exploration, np.random.default_rng(seed))
    shown = drawn.rows.tolist()
    assert len(shown) == len(set(shown)) == len(drawn.propensities)
    assert len(shown) >= min(n, count)
    assert len(shown) <= n
    assert set(shown) <= set(ranked.tolist()) | set(unproven.tolist())
    assert (drawn.propensities > 0).all()
    assert (drawn.propensities <= 1).all()


def test_without_rules_a_seed_draws_what_it_always_drew() -> None:
    ranked, unproven = np.arange(300)[::-1].copy(), np.arange(290, 310)
    drawn = draw(Contest(ranked, unproven), 8, BUILT_IN["home"].exploration, np.random.default_rng(7))
    assert drawn.rows.tolist() == [299, 293, 298, 296, 297, 295, 294, 303]
    expected = [0.92393868, 0.00505926, 0.76306602, 0.20128656, 0.79648708, 0.50721462, 0.49637393, 0.07692308]
    assert drawn.propensities.tolist() == pytest.approx(expected, abs=1e-8)


RED, BLUE = (10, 20, 40), (30, 50)
CAPPED = Contest(
    ranked=rows(10, 20, 30, 40, 50, 60),
    unproven=rows(20, 50, 60),
    pinned={1: 40},
    # At most two of RED, of which the pinned row is one, and one of BLUE.
    groups=Groups(
        rows(10, 20, 30, 40, 50, 60),
        np.array([[row in RED, row in BLUE] for row in (10, 20, 30, 40, 50, 60)]),
        rows(2, 1),
    ),
)
EXPLORING = Exploration(temperature=0.8, pool=3, new_slots=1, new_slots_from=4)


def within_caps(slate: tuple[int, ...]) -> bool:
    return sum(row in RED for row in slate) <= 2 and sum(row in BLUE for row in slate) <= 1


def chances(above: tuple[int, ...], slot: int, policy: str) -> dict[int, float]:
    """The probability of every row in a slot of CAPPED below `above`, which holds the pin too, in plain words."""
    order, pool = (10, 20, 30, 50, 60), (10, 20, 30)
    allowed = [row for row in order if row not in above and within_caps((*above, row))]
    if not allowed:
        allowed = [row for row in order if row not in above]
    weights = {row: (pool.index(row) + 1) ** (-1 / 0.8) if row in pool else 0.0 for row in allowed}
    if slot == 3:
        weights = {row: float(row in (20, 50, 60)) for row in allowed}
    if policy == "uniform":
        weights = dict.fromkeys(allowed, 1.0)
    total = sum(weights.values())
    return {row: weight / total for row, weight in weights.items() if weight} if total else {allowed[0]: 1.0}


def slates(policy: str) -> dict[tuple[int, ...], float]:
    """Every slate of four that CAPPED can come to, with its probability; the pin stands in the second slot."""
    found: dict[tuple[int, ...], float] = {(40,): 1.0}
    for slot in (0, 2, 3):
        found = {
            (*above, row): chance * probability
            for above, chance in found.items()
            for row, probability in chances(above, slot, policy).items()
        }
    return {(slate[1], 40, *slate[2:]): chance for slate, chance in found.items()}


def test_with_pins_caps_and_uniform_slates_the_propensities_are_the_frequencies_of_100_000_draws() -> None:
    seed = 20261126
    print("seed", seed)  # noqa: T201 - pytest shows it when the test fails
    rng = np.random.default_rng(seed)
    exploration = Exploration(temperature=0.8, pool=3, new_slots=1, new_slots_from=4, uniform_share=0.1)
    seen: dict[str, Counter[tuple[int, ...]]] = {"explored": Counter(), "uniform": Counter()}
    logged: dict[tuple[str, tuple[int, ...]], float] = {}
    for _ in range(DRAWS):
        drawn = draw(CAPPED, 4, exploration, rng)
        slate = tuple(drawn.rows.tolist())
        seen[drawn.policy][slate] += 1
        logged[drawn.policy, slate] = float(np.prod(drawn.propensities))
        assert drawn.fixed[1]
    assert seen["uniform"].total() / DRAWS == pytest.approx(0.1, abs=5 * np.sqrt(0.1 * 0.9 / DRAWS))
    for policy, counts in seen.items():
        expected, draws = slates(policy), counts.total()
        assert sum(expected.values()) == pytest.approx(1)
        assert set(counts) <= set(expected)
        for slate, probability in expected.items():
            if slate in counts:
                assert logged[policy, slate] == pytest.approx(probability, rel=1e-9)
            tolerance = 5 * np.sqrt(probability * (1 - probability) / draws) + 1 / draws
            assert counts[slate] / draws == pytest.approx(probability, abs=tolerance), (policy, slate)


def test_uniform_slates_without_caps_give_every_candidate_the_same_chance() -> None:
    uniform = Exploration(temperature=0.25, uniform_share=0.1)
    drawn = [draw(Contest(np.arange(5), rows()), 3, uniform, np.random.default_rng(seed)) for seed in range(1_000)]
    shares = [one.propensities.tolist() for one in drawn if one.policy == "uniform"]
    assert 50 < len(shares) < 150
    assert shares == [[1 / 5, 1 / 4, 1 / 3]] * len(shares)


def test_caps_give_way_to_a_full_slate_and_say_so() -> None:
    groups = Groups(np.arange(4), np.array([[True], [True], [True], [False]]), rows(1))
    for rng in (None, np.random.default_rng(1)):
        within = draw(Contest(np.arange(4), rows(), groups=groups), 2, EXPLORING, rng)
        assert not within.exceeded
        beyond = draw(Contest(np.arange(4), rows(), groups=groups), 4, EXPLORING, rng)
        assert beyond.exceeded
        assert sorted(beyond.rows.tolist()) == [0, 1, 2, 3]
    ranked = draw(Contest(np.arange(4), rows(), groups=groups), 3, EXPLORING, None)
    assert ranked.rows.tolist() == [0, 3, 1]


@given(
    count=st.integers(1, 30),
    caps=st.lists(st.tuples(st.integers(1, 3), st.integers(2, 5)), max_size=2),
    pins=st.dictionaries(st.integers(0, 9), st.integers(0, 29), max_size=3),
    n=st.integers(1, 12),
    uniform_share=st.sampled_from((0.0, 0.1)),
    seed=st.none() | st.integers(0, 2**32),
)
def test_pins_stand_at_their_slots_and_caps_hold_unless_they_are_said_to_give_way(
    count: int, caps: list[tuple[int, int]], pins: dict[int, int], n: int, uniform_share: float, seed: int | None
) -> None:
    pinned: dict[int, int] = {}
    for slot, row in pins.items():
        if slot < n and row < count and row not in pinned.values():
            pinned[slot] = row
    everything = np.arange(count)
    members = [everything % divisor == 0 for _, divisor in caps]
    groups = Groups(everything, np.stack(members, axis=1), rows(*(most for most, _ in caps))) if caps else None
    exploration = Exploration(temperature=0.5, pool=5, new_slots=1, uniform_share=uniform_share)

    contest = Contest(everything, everything[-2:], pinned, groups)
    drawn, again = (
        draw(contest, n, exploration, None if seed is None else np.random.default_rng(seed)) for _ in range(2)
    )
    shown = drawn.rows.tolist()
    assert shown == again.rows.tolist()
    assert len(shown) == len(set(shown)) == min(n, count)
    if count >= n:
        assert all(shown[slot] == row for slot, row in pinned.items())
    assert set(pinned.values()) <= set(shown)
    assert ((drawn.propensities > 0) & (drawn.propensities <= 1)).all()
    assert (drawn.propensities[drawn.fixed] == 1).all()
    for most, divisor in caps:
        of_group = sum(row % divisor == 0 for row in shown)
        by_pins = sum(row % divisor == 0 for row in pinned.values())
        assert drawn.exceeded or of_group <= max(most, by_pins)
