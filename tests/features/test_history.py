"""The merge of histories: whatever comes in whatever order, the newest events stay, each once."""

from hypothesis import given
from hypothesis import strategies as st

from features.history import History, HistoryEvent, decode_history, encode_history, event_of, merge
from streaming.events import Interaction, Kind
from streaming.ids import EventId, ItemId

# Few distinct times and ids, so that ties and repeats are common.
events = st.builds(
    HistoryEvent,
    happened_at=st.integers(0, 5),
    event_id=st.integers(0, 12).map(lambda number: EventId(f"e{number}")),
    item_id=st.integers(0, 3).map(lambda number: ItemId(f"i{number}")),
    kind=st.sampled_from(Kind),
    value=st.none() | st.integers(1, 5).map(float),
)
some_events = st.lists(events, max_size=20)
limits = st.integers(1, 8)


def event(number: int, at: int, item: str = "a", kind: Kind = Kind.CLICK) -> HistoryEvent:
    return HistoryEvent(at, EventId(f"e{number}"), ItemId(item), kind)


@given(some_events, limits, st.randoms())
def test_the_order_of_arrival_does_not_matter(arrived, limit, random):
    shuffled = random.sample(arrived, len(arrived))
    assert merge(History(), arrived, limit) == merge(History(), shuffled, limit)


@given(some_events, some_events, limits)
def test_merging_in_two_steps_is_merging_at_once(first, second, limit):
    in_steps = merge(merge(History(), first, limit), second, limit)
    assert in_steps == merge(History(), [*first, *second], limit)


@given(some_events, limits)
def test_merging_again_changes_nothing(arrived, limit):
    once = merge(History(), arrived, limit)
    assert merge(once, arrived, limit) == once


@given(some_events, limits)
def test_a_history_is_sorted_bounded_and_holds_each_event_once(arrived, limit):
    merged = merge(History(), arrived, limit).events
    assert len(merged) == min(limit, len({item.event_id for item in arrived}))
    assert [(item.happened_at, item.event_id) for item in merged] == sorted(
        (item.happened_at, item.event_id) for item in merged
    )
    assert len({item.event_id for item in merged}) == len(merged)


@given(some_events, limits)
def test_a_history_survives_its_stored_form(arrived, limit):
    history = merge(History(), arrived, limit)
    assert decode_history(encode_history(history)) == history


def test_two_clicks_in_one_millisecond_both_stay():
    merged = merge(History(), [event(2, at=7, item="b"), event(1, at=7, item="a")], limit=10)
    assert merged.items == ["a", "b"]


def test_a_late_event_takes_its_place_in_time():
    history = merge(History(), [event(1, at=10, item="a"), event(3, at=30, item="c")], limit=10)
    assert merge(history, [event(2, at=20, item="b")], limit=10).items == ["a", "b", "c"]


def test_an_event_older_than_a_full_history_does_not_enter():
    history = merge(History(), [event(1, at=10), event(2, at=20)], limit=2)
    assert merge(history, [event(3, at=5)], limit=2) == history


def test_what_the_user_does_not_want_is_kept():
    assert merge(History(), [event(1, at=1, kind=Kind.HIDE)], limit=5).events[0].kind is Kind.HIDE


def test_before_cuts_at_a_moment_which_is_itself_excluded():
    history = merge(History(), [event(1, at=10, item="a"), event(2, at=20, item="b")], limit=5)
    assert history.before(20).items == ["a"]


def test_an_interaction_becomes_the_part_that_a_history_keeps():
    interaction = Interaction(
        event_id="e1",
        happened_at=5,
        received_at=9,
        producer="test",
        item_id="é 1",
        kind=Kind.RATING,
        value=4.0,
        user_id="u",
    )
    assert event_of(interaction) == HistoryEvent(5, EventId("e1"), ItemId("é 1"), Kind.RATING, 4.0)
