"""What augmentation changes and what it must leave: only what truly followed is asked for, and never shown before."""

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.augmentation import Augmentation
from models.config import RetrievalSettings
from models.log import Log
from models.next_seconds import NextSeconds
from models.retrieval_training import CATALOGUE, HISTORY, RetrievalTrainer
from models.sharding import limited_threads, process_group

Way = Literal["none", "crop", "mask", "reorder", "substitute"]

ITEMS, USERS, EVENTS, SEED = 30, 12, 20, 17
UNKNOWN = ITEMS
WAYS: tuple[Way, ...] = ("none", "crop", "mask", "reorder", "substitute")
windows = st.tuples(st.integers(0, USERS - 1), st.integers(0, EVENTS - 1), st.integers(1, EVENTS)).map(
    lambda at: slice(at[0] * EVENTS + at[1], at[0] * EVENTS + min(at[1] + at[2], EVENTS))
)
strengths = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1)


def walks() -> Log:
    """Users who each come to 20 of 30 items once, in an order of their own, a second apart; kinds differ."""
    rng = np.random.default_rng(SEED)
    return Log(
        users=np.repeat(np.arange(USERS), EVENTS),
        rows=np.concatenate([rng.permutation(ITEMS)[:EVENTS] for _ in range(USERS)]),
        times=np.tile(np.arange(EVENTS), USERS) * 1_000,
        kinds=np.tile(np.arange(EVENTS) % 2, USERS),
        starts=np.arange(USERS + 1) * EVENTS,
    )


LOG = walks()


def augmentation(way: Way, strength: float = 0.4, log: Log = LOG) -> Augmentation:
    return Augmentation(RetrievalSettings(augmentation=way, augmentation_strength=strength), log, ITEMS)


@pytest.mark.parametrize("way", WAYS)
@given(window=windows, strength=strengths, seed=seeds)
def test_the_same_seed_reads_the_same(way: Way, window: slice, strength: float, seed: int) -> None:
    one, two = (augmentation(way, strength).read(window, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one.rows, two.rows)
    np.testing.assert_array_equal(one.order, two.order)
    np.testing.assert_array_equal(one.asked, two.asked)


@pytest.mark.parametrize("way", WAYS)
@given(window=windows, strength=strengths, seed=seeds)
def test_where_something_is_asked_nothing_later_was_read(way: Way, window: slice, strength: float, seed: int) -> None:
    read = augmentation(way, strength).read(window, np.random.default_rng(seed))
    later = LOG.rows[window.start : LOG.starts[LOG.users[window.start] + 1]]
    for place in np.flatnonzero(read.asked).tolist():
        assert sorted(read.order[: place + 1].tolist()) == list(range(place + 1))
        assert not set(read.rows[: place + 1].tolist()) & set(later[place + 1 :].tolist())


@pytest.mark.parametrize("way", ["none", "mask", "reorder", "substitute"])
@given(window=windows, strength=strengths, seed=seeds)
def test_only_a_crop_changes_which_events_a_window_has(way: Way, window: slice, strength: float, seed: int) -> None:
    assert augmentation(way, strength).window(window, np.random.default_rng(seed)) == window


@given(window=windows, strength=strengths, seed=seeds)
def test_a_crop_is_a_part_of_the_window_of_the_size_asked_for(window: slice, strength: float, seed: int) -> None:
    cropped = augmentation("crop", strength).window(window, np.random.default_rng(seed))
    size = window.stop - window.start
    assert window.start <= cropped.start < cropped.stop <= window.stop
    assert cropped.stop - cropped.start == (size if size == 1 else max(1, round(size * (1 - strength))))
    assert augmentation("crop", strength).read(cropped, np.random.default_rng(seed)).asked.all()


@given(window=windows, strength=strengths, seed=seeds)
def test_a_mask_hides_items_and_keeps_the_others_and_every_question(window: slice, strength: float, seed: int) -> None:
    read = augmentation("mask", strength).read(window, np.random.default_rng(seed))
    assert ((read.rows == LOG.rows[window]) | (read.rows == UNKNOWN)).all()
    assert read.asked.all()


@given(window=windows, strength=strengths, seed=seeds)
def test_reordering_moves_whole_events_within_a_span(window: slice, strength: float, seed: int) -> None:
    read = augmentation("reorder", strength).read(window, np.random.default_rng(seed))
    size = window.stop - window.start
    np.testing.assert_array_equal(read.rows, LOG.rows[window][read.order])
    moved = np.flatnonzero(read.order != np.arange(size))
    assert len(moved) == 0 or moved[-1] - moved[0] < round(size * strength)
    assert (~read.asked).sum() == max(0, round(size * strength) - 1)


@given(window=windows, strength=strengths, seed=seeds)
def test_a_substitute_is_an_item_that_others_used_and_the_user_did_not(
    window: slice, strength: float, seed: int
) -> None:
    read = augmentation("substitute", strength).read(window, np.random.default_rng(seed))
    user = LOG.users[window.start]
    own = set(LOG.rows[LOG.starts[user] : LOG.starts[user + 1]].tolist())
    users_of = [set(LOG.users[LOG.rows == item].tolist()) for item in range(ITEMS)]
    for before, after in zip(LOG.rows[window].tolist(), read.rows.tolist(), strict=True):
        assert after == before or (after not in own and users_of[before] & users_of[after])
    assert read.asked.all()


@pytest.mark.parametrize("way", ["mask", "substitute"])
def test_the_strength_is_the_share_that_changes(way: Way) -> None:
    """Over many draws; a substitute stays away where the drawn item is one of the user's own, so it is less."""
    rng, strength = np.random.default_rng(SEED), 0.3
    augmented = augmentation(way, strength)
    changed = np.mean(
        [
            (augmented.read(slice(start, start + EVENTS), rng).rows != LOG.rows[start : start + EVENTS]).mean()
            for start in np.tile(LOG.starts[:-1], 40)
        ]
    )
    assert changed == pytest.approx(strength, abs=0.02) if way == "mask" else 0.02 < changed < strength


def test_an_item_with_nothing_similar_stays() -> None:
    alone = Log(*(np.zeros(1, dtype=np.int64) for _ in range(4)), starts=np.array([0, 1]))
    read = augmentation("substitute", 0.99, alone).read(slice(0, 1), np.random.default_rng(SEED))
    assert read.rows.tolist() == [0]


@pytest.mark.parametrize("way", WAYS)
def test_the_trainer_asks_only_for_what_truly_followed(way: Way) -> None:
    """In the batches themselves: with no unknown items, each target is the item a second after what was read there."""
    settings = RetrievalSettings(
        length=8, dim=8, heads=1, batch_size=4, unknown_share=0.0, augmentation=way, augmentation_strength=0.5
    )
    with process_group(), limited_threads(1):
        trainer = RetrievalTrainer(settings, np.zeros((ITEMS, 1), dtype=np.float32), SEED)
        augmented = Augmentation(settings, LOG, ITEMS)
        asked = 0
        for part in trainer._epoch(LOG, augmented):
            batch = trainer._batch(LOG, NextSeconds.of(LOG), augmented, part)
            width = batch.kinds.shape[1]
            history = batch.rows[HISTORY].values().reshape(batch.kinds.shape)
            catalogue = batch.rows[CATALOGUE].values()
            for place, target in zip(batch.places.tolist(), catalogue[batch.targets].tolist(), strict=True):
                window = part[place // width]
                assert LOG.rows[window.start + place % width + 1] == target
                assert target not in history[place // width, : place % width + 1].tolist()
                asked += 1
    everything = len(LOG.rows) - USERS
    assert asked == everything if way in ("none", "mask", "substitute") else 0 < asked < everything
