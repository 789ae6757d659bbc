"""What an erasure takes out of a spool, and what it leaves."""

from pathlib import Path
from typing import Any

import pytest

from features.lake_erasure import Subject
from services.config import Settings
from services.erasure.erase import Eraser, _is_erased
from services.settings_serving import ServingSettings
from services.spooling import event_spool
from streaming.events import Event, Interaction, ItemRemoved, ItemUpserted, Kind, UserUpserted
from streaming.ids import SessionId, UserId
from streaming.marks import owner_of
from streaming.namespace import Namespace
from streaming.records import records_of
from streaming.topics import Topics

TOPICS = Topics(Namespace("shop"))


def act(received_at: int, **of: str) -> Interaction:
    return Interaction(
        event_id="e", happened_at=1, received_at=received_at, producer="test", item_id="i", kind=Kind.CLICK, **of
    )


@pytest.mark.parametrize(
    ("event", "goes"),
    [
        (act(10, user_id="42"), True),
        (act(11, user_id="42"), False),  # who came back is a new user
        (act(5, user_id="43"), False),
        (act(7, session_id="s"), True),
        (act(8, session_id="s"), False),
        (UserUpserted(event_id="u", happened_at=1, received_at=5, producer="test", user_id="42"), True),
    ],
)
def test_of_a_spool_only_what_an_erased_user_or_session_did_before_the_cut_goes(event: Event, goes: bool) -> None:
    [record] = records_of(TOPICS, event)
    assert _is_erased(record, {"42": 10, owner_of(None, "s"): 7}) is goes


@pytest.mark.parametrize(("user_id", "gone"), [(None, 1), (UserId("42"), 2)])
def test_items_that_wait_in_a_spool_stay_whoever_is_erased(tmp_path: Path, user_id: UserId | None, gone: int) -> None:
    settings = Settings(namespace=TOPICS.namespace, serving=ServingSettings(spool_folder=tmp_path))
    place = event_spool(settings)
    assert place is not None
    spool = place.claim()
    envelope: dict[str, Any] = {"event_id": "e", "happened_at": 1, "received_at": 5, "producer": "test"}
    items = [ItemUpserted(**envelope, item_id="42"), ItemRemoved(**envelope, item_id="42")]
    for event in (*items, act(5, session_id="s"), act(5, user_id="42")):
        spool.append(records_of(TOPICS, event)).result(10)
    spool.close()
    nothing: Any = None  # no lake is asked
    assert Eraser(settings, nothing)._erase_from_spools(Subject(user_id, frozenset([SessionId("s")]), 9, 9)) == (
        gone,
        0,
    )
    for left in place.left_behind():
        assert [one.record.topic for one in left.first(-1)].count(TOPICS.items) == 3  # a removal is two records
