"""Whose an embedding row is: admission, shared rows, eviction and growth."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.config import VocabularySettings
from models.embedding_vocabulary import EmbeddingVocabulary, ItemRows, Usage, next_vocabulary
from models.vocabulary import hashed
from streaming.ids import ItemId

NOW, DAY_MS = 1_790_000_000_000, 86_400_000
AS_TODAY = VocabularySettings()

Seen = dict[str, tuple[int, int]]  # item → (interactions, days since the last one)

ids = st.text("ab019", min_size=1, max_size=3)
seen = st.dictionaries(ids, st.tuples(st.integers(1, 9), st.integers(0, 9)), max_size=12)
settings = st.builds(
    VocabularySettings,
    admit_at=st.integers(1, 5),
    shared_rows=st.integers(1, 4),
    evict_after_days=st.integers(0, 5),
    most_items=st.integers(0, 8),
)


def usage(what: Seen) -> Usage:
    counts = np.array([count for count, _ in what.values()], dtype=np.int64)
    last = np.array([NOW - age * DAY_MS for _, age in what.values()], dtype=np.int64)
    return Usage([ItemId(item) for item in what], counts, last)


def after(before: EmbeddingVocabulary | None, what: Seen, chosen: VocabularySettings = AS_TODAY) -> EmbeddingVocabulary:
    return next_vocabulary(before, usage(what), chosen, NOW)


def rows(of: EmbeddingVocabulary) -> dict[str, int]:
    """The items' rows, counted by hand."""
    found = [(item, row) for row, item in enumerate(of.item_ids) if item is not None]
    assert len({item for item, _ in found}) == len(found)
    return dict(found)


@given(st.lists(st.tuples(seen, settings), min_size=2, max_size=6))
def test_an_item_keeps_its_row_over_any_retrainings_until_it_is_evicted(
    runs: list[tuple[Seen, VocabularySettings]],
) -> None:
    vocabulary = None
    for what, chosen in runs:
        before = rows(vocabulary) if vocabulary else {}
        vocabulary = after(vocabulary, what, chosen)
        now = rows(vocabulary)
        for item in before.keys() & now.keys():
            assert now[item] == before[item]
        for item in before.keys() - now.keys():
            too_old = item not in what or what[item][1] > chosen.evict_after_days
            assert (chosen.evict_after_days and too_old) or len(now) == chosen.most_items
        for item in now.keys() - before.keys():
            assert what[item][0] >= chosen.admit_at
            assert not chosen.evict_after_days or what[item][1] <= chosen.evict_after_days
        assert not chosen.most_items or len(now) <= chosen.most_items


@given(seen, seen, settings, st.randoms(use_true_random=False))
def test_rows_do_not_depend_on_the_order_of_the_events(
    first: Seen, second: Seen, chosen: VocabularySettings, random: object
) -> None:
    def shuffled(what: Seen) -> Seen:
        items = list(what.items())
        random.shuffle(items)  # type: ignore[attr-defined]
        return dict(items)

    expected = after(after(None, first, chosen), second, chosen)
    assert after(after(None, shuffled(first), chosen), shuffled(second), chosen) == expected


@given(seen)
def test_by_default_every_item_has_the_row_of_its_place_and_one_row_is_for_all_others(what: Seen) -> None:
    vocabulary = after(None, what)
    assert list(vocabulary.item_ids) == sorted(what, key=lambda item: (len(item), item))
    found, expected = vocabulary.rows_of(vocabulary.item_ids), ItemRows.own(len(what))
    assert found.used.tolist() == expected.used.tolist() == list(range(len(what)))
    assert found.shared.tolist() == expected.shared.tolist() == [len(what)] * len(what)
    assert (found.size, found.shared_count, found.first_shared) == (len(what) + 1, 1, len(what))


def test_rare_items_share_the_rows_that_their_ids_hash_to() -> None:
    what = {f"rare{number}": (1, 0) for number in range(50)} | {"often": (5, 0)}
    vocabulary = after(None, what, VocabularySettings(admit_at=2, shared_rows=7))
    assert vocabulary.item_ids == ("often",)
    found = vocabulary.rows_of([ItemId(item) for item in what])
    assert found.used.tolist() == [1 + hashed("shared", item, 7) for item in what if item != "often"] + [0]
    assert set(found.used.tolist()) == set(range(8))
    assert found.shared[-1] == 1 + hashed("shared", "often", 7)  # as which it is trained now and then


def test_an_item_that_is_used_less_later_keeps_its_row() -> None:
    chosen = VocabularySettings(admit_at=3)
    first = after(None, {"a": (3, 0), "b": (2, 0)}, chosen)
    assert rows(after(first, {"a": (1, 0), "b": (3, 0)}, chosen)) == {"a": 0, "b": 1}


def test_an_item_unseen_for_too_long_loses_its_row_to_the_next_new_one() -> None:
    chosen = VocabularySettings(evict_after_days=3)
    first = after(None, {"a": (9, 0), "b": (9, 3), "c": (9, 0)}, chosen)
    assert first.item_ids == ("a", "b", "c")
    second = after(first, {"a": (9, 4), "c": (9, 1)}, chosen)
    assert second.item_ids == (None, None, "c")  # b is not in the log at all
    assert after(second, {"c": (9, 0), "z": (1, 0), "x": (1, 0), "y": (1, 0)}, chosen).item_ids == ("x", "y", "c", "z")


def test_beyond_the_most_items_the_rarest_lose_their_rows_and_known_ones_stay_before_new_ones() -> None:
    first = after(None, {"a": (1, 0), "b": (5, 0), "c": (2, 0)})
    limited = VocabularySettings(most_items=2)
    assert after(first, {"a": (3, 0), "b": (5, 0), "c": (3, 0), "0": (3, 0)}, limited).item_ids == ("a", "b", None)
    assert after(first, {"a": (3, 0), "b": (5, 0), "d": (9, 0)}, limited).item_ids == ("d", "b", None)


def test_rows_stay_with_their_items_and_shared_rows_with_their_hashes() -> None:
    before = EmbeddingVocabulary((ItemId("a"), ItemId("b"), None), 2)
    later = EmbeddingVocabulary((ItemId("a"), None, ItemId("b"), ItemId("c")), 2)
    here, there = before.kept_by(later)
    assert (here.tolist(), there.tolist()) == ([0, 3, 4], [0, 4, 5])
    here, there = before.kept_by(EmbeddingVocabulary((ItemId("x"), ItemId("b")), 3))
    assert (here.tolist(), there.tolist()) == ([1], [1])


def test_a_vocabulary_is_kept_as_json_and_checked_when_it_is_read() -> None:
    vocabulary = EmbeddingVocabulary((ItemId("a"), None, ItemId("ж")), 2)
    assert msgspec.json.decode(msgspec.json.encode(vocabulary), type=EmbeddingVocabulary) == vocabulary
    for text, why in (
        ('{"item_ids":["a","a"],"shared":1}', "two rows"),
        ('{"item_ids":[],"shared":0}', "no shared row"),
    ):
        with pytest.raises(msgspec.ValidationError, match=why):
            msgspec.json.decode(text, type=EmbeddingVocabulary)
