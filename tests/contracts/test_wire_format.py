"""Golden files: what any release wrote, every later release must read, with nothing lost."""

import json
from pathlib import Path

import msgspec
import pytest

from streaming.codec import decode, encode
from streaming.events import (
    AcknowledgedOffsets,
    ErasureCompleted,
    ErasureEntered,
    Event,
    IdentityLinked,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    Kind,
    LoggedState,
    ModelPromoted,
    RecordsAcknowledged,
    ReplayInputs,
    SlateItem,
    UserErased,
    UserUpserted,
)

GOLDEN = Path(__file__).parent / "golden"

ENVELOPE = {
    "event_id": "0190a6f0-0000-7000-8000-000000000001",
    "happened_at": 1_767_225_600_123,
    "received_at": 1_767_225_600_456,
    "producer": "shop-web",
}
ITEM = "boots-42 Größe"

EVENTS: list[Event] = [
    ItemUpserted(
        **ENVELOPE,
        item_id=ITEM,
        title="Boots",
        categories=["shoes", "winter"],
        attributes={"colour": "red", "price": 59.5, "sale": True},
        text="Warm boots.",
        available_from=1_767_225_600_000,
        available_until=1_798_761_600_000,
        hidden=True,
    ),
    ItemRemoved(**ENVELOPE, item_id=ITEM),
    UserUpserted(**ENVELOPE, user_id="ユーザー 1", attributes={"age": 33.0, "country": "JP"}),
    UserErased(**ENVELOPE, user_id="ユーザー 1"),
    IdentityLinked(**ENVELOPE, session_id="s-9", user_id="ユーザー 1"),
    Interaction(
        **ENVELOPE,
        source_time=874_724_710_000,
        item_id=ITEM,
        kind=Kind.RATING,
        user_id="ユーザー 1",
        session_id="s-9",
        surface="home",
        value=4.5,
        request_id="r-1",
        position=3,
    ),
    Impression(
        **ENVELOPE,
        surface="home",
        variant="champion",
        slate=[SlateItem(item_id=ITEM, position=0, score=1.25, propensity=0.5, source="sequence")],
        seed=7,
        user_id="ユーザー 1",
        session_id="s-9",
        model_version="m-1",
        fallbacks=["popular"],
        user_state=LoggedState(history=["a", "b"], features={"interactions_total": 2.0, "country": "JP"}),
        catalogue_offsets={"0": 12, "1": 3},
    ),
    ModelPromoted(**ENVELOPE, model_version="m-1", champion_number=4),
]
MARK = "5f" * 32
SINCE_1_2: list[Event] = [
    ErasureEntered(**ENVELOPE, mark=MARK),
    ErasureCompleted(**ENVELOPE, mark=MARK, cut=1_767_225_600_789),
]
SINCE_1_3: list[Event] = [
    RecordsAcknowledged(
        **ENVELOPE,
        outbox="0c3f0a5e9f6f4a43b8d1d6b5d0a3f1c2",
        number=3,
        offsets=[
            AcknowledgedOffsets(topic="shop.interactions", partition=2, ranges=[(0, 41), (57, 57)]),
            AcknowledgedOffsets(topic="shop.items", partition=0, ranges=[(7, 9)]),
        ],
    ),
]


IMPRESSION = next(event for event in EVENTS if isinstance(event, Impression))
WRITTEN: list[tuple[str, Event]] = [
    *(("v1", event) for event in EVENTS),
    # Events that have gained fields since, as they are written now.
    (
        "v1_1",
        msgspec.structs.replace(
            IMPRESSION,
            slate=[msgspec.structs.replace(IMPRESSION.slate[0], fixed=True, rules=["pin", "boost:sale"])],
            surfaces_version="0123456789ab",
            policy="explored",
            replay=ReplayInputs(
                n=10,
                categories=["shoes"],
                exclude=["seen-1"],
                shown=["page-1"],
                history=b"history",
                interaction_offsets={"0": 40},
            ),
        ),
    ),
    *(("v1_2", event) for event in SINCE_1_2),
    *(("v1_3", event) for event in SINCE_1_3),
]
NEWEST: list[tuple[str, Event]] = list({type(event): (release, event) for release, event in WRITTEN}.values())


def golden(release: str, event: Event) -> Path:
    return GOLDEN / release / f"{event.__struct_config__.tag}.json"


def name(value: object) -> str:
    return value if isinstance(value, str) else type(value).__name__


def test_every_event_has_a_golden_file() -> None:
    assert {type(event) for _, event in WRITTEN} == set(Event.__args__)
    assert set(GOLDEN.glob("*/*.json")) == {golden(release, event) for release, event in WRITTEN}


@pytest.mark.parametrize(("release", "event"), WRITTEN, ids=name)
def test_a_golden_file_decodes_to_its_event(release: str, event: Event) -> None:
    assert decode(golden(release, event).read_bytes()) == event


@pytest.mark.parametrize(("release", "event"), WRITTEN, ids=name)
def test_an_event_encodes_to_its_golden_file(release: str, event: Event) -> None:
    assert json.loads(encode(event)) == json.loads(golden(release, event).read_bytes())


@pytest.mark.parametrize(("release", "event"), NEWEST, ids=name)
def test_every_field_is_in_an_events_newest_golden_file(release: str, event: Event) -> None:
    written = json.loads(golden(release, event).read_bytes())
    assert set(written) - {"type"} >= {field.name for field in msgspec.structs.fields(event)} - {"source_time"}


@pytest.mark.parametrize(("release", "event"), NEWEST, ids=name)
def test_a_reader_of_an_events_first_release_reads_what_this_one_writes(release: str, event: Event) -> None:
    first = next(golden(early, known) for early, known in WRITTEN if type(known) is type(event))
    known = [one for one in msgspec.structs.fields(event) if one.name in json.loads(first.read_bytes())]
    assert {one.name for one in known} >= {"event_id", "happened_at", "schema_version"}
    tag = event.__struct_config__.tag
    reader = msgspec.defstruct("Reader", [(one.name, one.type) for one in known], tag=tag, tag_field="type")
    read = msgspec.json.decode(encode(event), type=reader)
    assert [getattr(read, one.name) for one in known] == [getattr(event, one.name) for one in known]
