from dataclasses import replace

import labelled
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.acts import Acts
from models.pairs import TooManyItems, pair_features, pair_width, pairs_before

seeds = st.integers(0, 2**32 - 1)
PLACES = 4


def distinct(seed: int) -> tuple[Acts, np.ndarray]:
    """Acts of users who meet an item once, and random surprises."""
    acts = labelled.acts(seed, count=40, users=4, items=12)
    _, first = np.unique(acts.users * 100 + acts.items, return_index=True)
    kept = np.sort(first)
    acts = replace(
        acts, **{name: getattr(acts, name)[kept] for name in ("users", "items", "times", "values", "labels")}
    )
    return acts, np.random.default_rng(seed).normal(size=len(kept))


@given(seeds)
@settings(max_examples=30)
def test_likeness_is_the_cosine_over_users_who_had_met_both(seed: int) -> None:
    acts, surprises = distinct(seed)
    pairs = pairs_before(acts, surprises, PLACES)
    seconds = acts.times // 1000
    for act in range(len(acts.users)):
        known = {
            (user, item): surprise
            for user, item, surprise, second in zip(acts.users, acts.items, surprises, seconds, strict=True)
            if second < seconds[act]
        }
        assert pairs.own[act] == sum(item == acts.items[act] for _, item in known)
        for place, other in enumerate(pairs.history[act]):
            if other < 0:
                continue
            a, b = acts.items[act], acts.items[other]
            both = [user for user in range(4) if (user, a) in known and (user, b) in known]
            x, y = (np.array([known[user, item] for user in both]) for item in (a, b))
            assert pairs.common[act, place] == len(both)
            assert pairs.others[act, place] == sum(item == b for _, item in known)
            norm = np.sqrt((x**2).sum() * (y**2).sum())
            assert pairs.cosines[act, place] == pytest.approx((x * y).sum() / (norm + 1e-3), abs=1e-4)


@given(seeds, st.integers(0, 19))
@settings(max_examples=30)
def test_pairs_do_not_know_their_own_second_or_later(seed: int, at: int) -> None:
    acts, surprises = distinct(seed)
    at = min(at, len(surprises) - 1)
    seconds = acts.times // 1000
    changed = np.where(seconds >= seconds[at], surprises + 1, surprises)
    ours, theirs = (
        pairs_before(acts, values, PLACES).cosines[seconds == seconds[at]] for values in (surprises, changed)
    )
    assert (ours == theirs).all()


def test_a_place_without_an_act_has_features_of_zero() -> None:
    acts, surprises = distinct(3)
    pairs = pairs_before(acts, surprises, PLACES)
    found = pair_features(acts, pairs, np.arange(len(surprises)))
    assert found.shape == (len(surprises), PLACES, pair_width(acts))
    assert np.isfinite(found).all()
    assert (found[pairs.history < 0] == 0).all()
    assert (found[pairs.history >= 0] != 0).any(axis=-1).all()


def test_too_many_items_are_refused() -> None:
    acts = replace(labelled.acts(1), content=np.zeros((10_001, 4), np.float32))
    with pytest.raises(TooManyItems, match="10,001 items"):
        pairs_before(acts, np.zeros(60), PLACES)
