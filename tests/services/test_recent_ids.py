"""What is a duplicate here is one in the lake too, and the memory is bounded."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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


class RecentIdsAgainstAList(RuleBasedStateMachine):
    """Exactly the newest ids are remembered, and none that was not added."""

    @initialize(size=st.integers(0, 8))
    def nothing_yet(self, size: int) -> None:
        self.size, self.recent = size, RecentIds(size)
        self.added: list[int] = []

    @rule(batch=st.lists(st.integers(0, 12), max_size=4))
    def send(self, batch: list[int]) -> None:
        fresh = [number for number in dict.fromkeys(batch) if not self.recent.knows(click(f"e{number}"))]
        self.recent.add([click(f"e{number}") for number in fresh])
        self.added += fresh

    @rule(batch=st.lists(st.integers(0, 12), max_size=4))
    def send_what_does_not_become_durable(self, batch: list[int]) -> None:
        for number in batch:
            self.recent.knows(click(f"e{number}"))

    @rule()
    def start_again(self) -> None:
        self.nothing_yet(self.size)

    @invariant()
    def the_newest_are_known(self) -> None:
        newest = self.added[-self.size :] if self.size else []
        assert [number for number in range(13) if self.recent.knows(click(f"e{number}"))] == sorted(newest)


TestRecentIdsAgainstAList = RecentIdsAgainstAList.TestCase
TestRecentIdsAgainstAList.settings = settings(max_examples=50, stateful_step_count=15, deadline=None)


def test_a_key_is_what_the_lake_merges_on() -> None:
    assert key_of(click("e")) == (Interaction, "e", 20_000)
