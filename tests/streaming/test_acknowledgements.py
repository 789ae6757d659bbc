"""What an outbox tells of the offsets that were acknowledged to it: each of them, once."""

from collections import Counter
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streaming.acknowledgements import Acknowledgements
from streaming.events import RecordsAcknowledged
from streaming.namespace import Namespace
from streaming.records import LARGEST_RECORD, records_of
from streaming.topics import Topics

TOPICS = Topics(Namespace("shop"))
A_DAY_S = 86_400.0


class Metadata(NamedTuple):
    """As kafka-python has it."""

    topic: str
    partition: int
    offset: int


def begun() -> Acknowledgements:
    return Acknowledgements("one", lambda: 7)


def offsets(event: RecordsAcknowledged | None) -> Counter[Metadata]:
    assert event is not None
    return Counter(
        Metadata(one.topic, one.partition, offset)
        for one in event.offsets
        for first, last in one.ranges
        for offset in range(first, last + 1)
    )


_PLACES = st.builds(
    Metadata, st.sampled_from([TOPICS.interactions, TOPICS.items]), st.integers(0, 2), st.integers(0, 30)
)
_STEPS = st.lists(st.one_of(st.lists(_PLACES, unique=True), st.booleans()), max_size=30)


@given(_STEPS)
def test_whatever_fails_in_between_every_acknowledged_offset_is_told_as_often_as_it_was_acknowledged(
    steps: list[list[Metadata] | bool],
) -> None:
    one, noted, told = begun(), Counter[Metadata](), dict[int, RecordsAcknowledged]()
    for hour, step in enumerate([*steps, True, True]):
        if isinstance(step, list):
            for metadata in step:
                one.note(metadata)
                noted[metadata] += 1
            continue
        event = one.due(hour * 3_600.0)
        if event is not None:
            assert told.setdefault(event.number, event) == event, "one number was given to two events"
            if step:
                one.told(event)
    assert sum((offsets(event) for event in told.values()), Counter()) == noted
    assert sorted(told) == [*range(1, len(told) + 1)]
    assert one.due(A_DAY_S) is None


def test_offsets_that_follow_each_other_are_one_range() -> None:
    one = begun()
    for offset in (4, 5, 6, 9, 2):
        one.note(Metadata(TOPICS.items, 1, offset))
    event = one.due(0.0)
    assert event is not None
    assert [(told.topic, told.partition, told.ranges) for told in event.offsets] == [
        (TOPICS.items, 1, [(4, 6), (9, 9), (2, 2)])
    ]
    assert (event.outbox, event.number, event.happened_at) == ("one", 1, 7)


def test_an_event_is_told_every_ten_seconds_and_again_until_it_is_in_the_log() -> None:
    one = begun()
    one.note(Metadata(TOPICS.items, 0, 0))
    first = one.due(100.0)
    assert first is not None
    one.note(Metadata(TOPICS.items, 0, 1))
    assert one.due(109.9) is None
    assert one.due(110.0) == first
    one.told(first)
    one.told(first)
    second = one.due(120.0)
    assert second is not None
    assert (second.number, offsets(second)) == (2, Counter([Metadata(TOPICS.items, 0, 1)]))


def test_an_offset_that_the_broker_did_not_name_is_not_told() -> None:
    one = begun()
    one.note(Metadata(TOPICS.items, 0, -1))
    assert one.due(0.0) is None


def test_what_cannot_be_told_is_given_out_every_ten_seconds_alone_and_kept_within_bounds() -> None:
    one = begun()
    for offset in range(0, 2 * 300_000, 2):
        one.note(Metadata(TOPICS.items, 0, offset))
    first = one.due(0.0)
    assert first is not None
    assert one.due(9.9) is None
    assert one.due(10.0) == first
    told = Counter[Metadata]()
    while event := one.due(20.0):
        told += offsets(event)
        one.told(event)
    last = one.due(30.0)
    assert sum((told + (offsets(last) if last else Counter())).values()) == 200_000


def test_however_many_ranges_there_are_each_event_fits_in_a_record() -> None:
    one, told = begun(), Counter[Metadata]()
    everything = [Metadata(TOPICS.interactions, part, 10**15 + 2 * at) for part in range(3) for at in range(15_000)]
    for metadata in everything:
        one.note(metadata)
    while event := one.due(0.0):  # not ten seconds later: there is too much of it
        [record] = records_of(TOPICS, event)
        assert record.size <= LARGEST_RECORD
        told += offsets(event)
        one.told(event)
    assert sum(told.values()) >= 40_000
    last = one.due(10.0)
    assert told + offsets(last) == Counter(everything)
