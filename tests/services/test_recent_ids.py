"""What is a duplicate here is one in the lake too, and the memory is bounded."""

from hypothesis import given
from hypothesis import strategies as st

from services.collect.recent import RecentIds, key_of
from streaming.events import Interaction, ItemUpserted, Kind

DAY_MS = 86_400_000
NOON = 20_000 * DAY_MS + DAY_MS // 2


def click(event_id: str, happened_at: int = NOON - 1, received_at: int = NOON) -> Interaction:
    return Interaction(
        event_id=event_id,
        happened_at=happened_at,
        received_at=received_at,
        producer="test",
        item_id="i",
        kind=Kind.CLICK,
        user_id="u",
    )


def test_the_same_id_on_another_day_is_another_event_as_it_is_in_the_lake() -> None:
    recent = RecentIds(10)
    recent.add([click("e")])
    assert recent.knows(click("e", NOON - DAY_MS // 2))
    assert not recent.knows(click("e", NOON - DAY_MS // 2 - 1))


def test_an_event_without_a_time_that_comes_again_after_midnight_is_a_duplicate() -> None:
    recent = RecentIds(10)
    recent.add([click("e", NOON, NOON)])
    assert recent.knows(click("e", NOON + DAY_MS, NOON + DAY_MS))


def test_an_item_is_no_duplicate_of_an_interaction_with_its_id() -> None:
    recent = RecentIds(10)
    recent.add([click("e")])
    assert not recent.knows(ItemUpserted(event_id="e", happened_at=NOON, received_at=NOON, producer="t", item_id="i"))


@given(st.lists(st.integers(0, 12), max_size=60), st.integers(0, 8))
def test_exactly_the_newest_ids_are_remembered_and_none_that_was_not_added(numbers: list[int], size: int) -> None:
    recent = RecentIds(size)
    added: list[int] = []
    for number in numbers:
        event = click(f"e{number}")
        if not recent.knows(event):
            recent.add([event])
            added.append(number)
    newest = added[-size:] if size else []
    assert [number for number in range(13) if recent.knows(click(f"e{number}"))] == sorted(newest)


def test_a_key_is_what_the_lake_merges_on() -> None:
    assert key_of(click("e")) == (Interaction, "e", 20_000)
