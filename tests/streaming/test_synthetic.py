import numpy as np
import pytest

from streaming.ids import ItemId
from streaming.synthetic import World, WorldSpec, item_id, user_id

SPEC = WorldSpec(users=40, items=60, categories=6, mean_events=12, seed=7)


def test_the_same_seed_gives_the_same_world() -> None:
    assert World(SPEC).data == World(SPEC).data


def test_nobody_meets_an_item_twice() -> None:
    pairs = [(event.user_id, event.item_id) for event in World(SPEC).data.interactions]
    assert len(pairs) == len(set(pairs))


def test_probabilities_sum_to_one_and_leave_out_what_was_seen() -> None:
    world = World(SPEC)
    history = [item_id(3), item_id(9)]
    probabilities = world.probabilities(user_id(0), history)
    assert probabilities.sum() == pytest.approx(1.0)
    assert probabilities[[3, 9]].tolist() == [0.0, 0.0]


def test_the_last_items_category_gets_the_focus() -> None:
    world = World(SPEC)
    without = world.probabilities(user_id(0), [])
    after = world.probabilities(user_id(0), [item_id(0)])
    category = np.arange(SPEC.items) % SPEC.categories == 0
    expected = SPEC.focus + (1 - SPEC.focus) * without[category].sum()
    assert after[category].sum() == pytest.approx(expected)


def test_items_are_drawn_as_often_as_the_probabilities_say() -> None:
    spec = WorldSpec(users=4_000, items=30, categories=3, mean_events=5, seed=11)
    world = World(spec)
    first: dict[str, ItemId] = {}
    for event in world.data.interactions:
        first.setdefault(event.user_id, event.item_id)
    drawn = np.bincount([int(item.rpartition("-")[2]) for item in first.values()], minlength=spec.items)
    expected = np.sum([world.probabilities(user_id(user), []) for user in range(spec.users)], axis=0)
    chi_square = float(((drawn - expected) ** 2 / expected).sum())
    assert chi_square < 58.3  # 99.9 % quantile with 29 degrees of freedom
