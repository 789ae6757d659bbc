"""Records of slates in a real Valkey: found by request and by owner, gone in time, deletable by owner."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis

from features.config import StoreSettings, store_url
from features.history import History, HistoryEvent
from features.slate_records import EVENTS_KEPT, Kept, SlateRecord, SlateRecords, decode_record, encode_record
from streaming.events import Impression, Kind, LoggedState, SlateItem
from streaming.ids import EventId, ItemId, RequestId, SessionId, UserId
from streaming.namespace import Namespace

NOW = 1_790_000_000_000
FAR = 4_000_000_000_000  # Valkey goes by its own clock
EVENTS = st.lists(st.builds(HistoryEvent, st.integers(0, FAR), st.text(), st.text(min_size=1), st.sampled_from(Kind)))


def impression(request_id: str, user: str | None = "Zoë 7", session: str | None = None) -> Impression:
    return Impression(
        event_id=request_id,
        happened_at=NOW,
        received_at=NOW,
        producer="test",
        surface="home",
        variant="champion",
        slate=[SlateItem(item_id="i1", position=0, score=0.5, propensity=1.0, source="s", rules=["pin"])],
        seed=1,
        user_id=user,
        session_id=session,
        user_state=LoggedState(history=["i3"], features={"interactions_total": 1.0}),
    )


def record(*args: Any) -> tuple[Kept, bytes]:
    shown = impression(*args)
    return Kept.of(shown, FAR), encode_record(SlateRecord.of(shown, History()))


@pytest.fixture
def records(valkey: StoreSettings, namespace: Namespace) -> Iterator[SlateRecords]:
    opened = SlateRecords(valkey, namespace)
    yield opened
    opened.close()


@pytest.fixture
def redis(valkey: StoreSettings) -> Iterator[Any]:
    with Redis.from_url(store_url(valkey)) as client:
        yield client


def keys(redis: Any, namespace: str) -> list[str]:
    return sorted(key.decode() for key in redis.scan_iter(f"flywheel:{namespace}:*"))


@given(events=EVENTS)
def test_a_record_holds_the_slate_and_what_a_model_reads_of_the_newest_events(events: list[HistoryEvent]) -> None:
    shown = impression("r")
    read = decode_record(encode_record(SlateRecord.of(shown, History(tuple(events)))))
    assert read.impression.slate == shown.slate
    assert read.impression.user_state == LoggedState(history=[], features={"interactions_total": 1.0})
    expected = [(event.happened_at, event.item_id, event.kind) for event in events[-EVENTS_KEPT:]]
    assert [(event.happened_at, event.item_id, event.kind) for event in read.history.events] == expected


def test_a_long_history_is_cut_and_says_so() -> None:
    events = [HistoryEvent(n, EventId(f"e{n}"), ItemId(f"i{n}"), Kind.CLICK) for n in range(EVENTS_KEPT + 1)]
    cut = SlateRecord.of(impression("r"), History(tuple(events)))
    assert cut.is_cut
    assert cut.history.items == [f"i{n}" for n in range(1, EVENTS_KEPT + 1)]
    assert not SlateRecord.of(impression("r"), History(tuple(events[:-2]))).is_cut


def test_a_record_and_what_leads_to_it_go_in_time(records: SlateRecords, redis: Any, namespace: Namespace) -> None:
    seconds, millis = redis.time()
    now = seconds * 1_000 + millis // 1_000
    shown = impression("r1", "Zoë 7", "s")
    kept = Kept.of(shown, now + 60_000)
    records.write([(kept, b"x")], [], now)
    found = keys(redis, namespace)
    assert len(found) == 3
    assert all("Zoë" not in key for key in found)
    left = {key: redis.pttl(key) for key in found}
    of_record = left.pop(f"flywheel:{namespace}:slate:r1")
    assert 30_000 < of_record <= 60_000
    assert all(of_record < of_owner <= 120_000 for of_owner in left.values())


def test_what_has_gone_leaves_the_owners_entries_when_the_next_comes(
    records: SlateRecords, redis: Any, namespace: Namespace
) -> None:
    first, second = (Kept.of(impression(name), FAR + number) for number, name in enumerate(("r1", "r2")))
    records.write([(first, b"x")], [], NOW)
    [owner] = [key for key in keys(redis, namespace) if ":slates:" in key]
    records.write([(second, b"x")], [], FAR)
    assert redis.zrange(owner, 0, -1) == [b"r2"]


def test_deleting_a_user_leaves_nothing_of_theirs_and_all_of_others(
    records: SlateRecords, valkey: StoreSettings, redis: Any, namespace: Namespace
) -> None:
    elsewhere = Namespace(f"{namespace[:-1]}x")
    other_tenant = SlateRecords(valkey, elsewhere)
    many = [record(f"m{number}") for number in range(1_203)]  # more than one round of deleting, and of writing
    rest = [record("r1", "other"), record("r2", None, "s1"), record("r3", None, None)]
    records.write([*many, *rest], [], NOW)
    other_tenant.write([record("m1")], [], NOW)
    tenant = keys(redis, elsewhere)
    assert records.delete_user(UserId("Zoë 7")) == 1_203
    assert [key for key in keys(redis, namespace) if ":slate:" in key] == [
        f"flywheel:{namespace}:slate:r{number}" for number in (1, 2, 3)
    ]
    assert keys(redis, elsewhere) == tenant
    assert records.delete_user(UserId("Zoë 7")) == 0
    assert records.delete_session(SessionId("s1")) == 1
    assert len([key for key in keys(redis, namespace) if ":slates:" in key]) == 1
    other_tenant.close()


def test_a_user_and_a_session_of_one_name_are_two_owners(records: SlateRecords) -> None:
    records.write([record("r1", "same", None), record("r2", None, "same")], [], NOW)
    assert records.delete_session(SessionId("same")) == 1
    assert records.delete_user(UserId("same")) == 1


def test_what_is_replaced_leaves_no_entry(records: SlateRecords, redis: Any, namespace: Namespace) -> None:
    one, two = record("r1", "u", "s"), record("r2", "u", "s")
    records.write([one], [], NOW)
    records.write([two], [one[0]], NOW)
    found = keys(redis, namespace)
    assert f"flywheel:{namespace}:slate:{RequestId('r1')}" not in found
    assert [redis.zrange(key, 0, -1) for key in found if ":slates:" in key] == [[b"r2"], [b"r2"]]
