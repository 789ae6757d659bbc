import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.codec import FromTheFuture, Undecodable, decode, encode
from streaming.events import Interaction, Kind

INTERACTION = {
    "type": "interaction",
    "event_id": "e1",
    "happened_at": 1_700_000_000_000,
    "received_at": 1_700_000_000_500,
    "producer": "test",
    "user_id": "u1",
    "item_id": "i1",
    "kind": "click",
}


def wire(**changes: object) -> bytes:
    return json.dumps({key: value for key, value in (INTERACTION | changes).items() if value is not None}).encode()


def test_an_interaction_is_read_from_its_wire_form() -> None:
    assert decode(wire()) == Interaction(
        event_id="e1",
        happened_at=1_700_000_000_000,
        received_at=1_700_000_000_500,
        producer="test",
        user_id="u1",
        item_id="i1",
        kind=Kind.CLICK,
    )


def test_a_field_that_this_release_does_not_know_is_ignored() -> None:
    assert decode(wire(colour="red")) == decode(wire())


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\xff\xfe", "invalid"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "type"),
        (wire(kind="stare"), "$.kind"),
        (wire(item_id=None), "item_id"),
        (wire(item_id=""), "$.item_id"),
        (wire(item_id=7), "$.item_id"),
        (wire(item_id="x" * 201), "$.item_id"),
        (wire(happened_at="yesterday"), "$.happened_at"),
        (wire(happened_at=-1), "$.happened_at"),
        (wire(happened_at=10**18), "$.happened_at"),
        (wire(user_id=None), "user_id or session_id"),
        (wire(kind="rating"), "value is required"),
        (wire().replace(b'"click"', b'"rating", "value": NaN'), "invalid"),
        (wire(position=-1), "$.position"),
        (b'{"type": "interaction", "more": ' + b"[" * 400_000, "recursion"),
        (b'{"more": ' * 100_000, "recursion"),
    ],
)
def test_a_bad_record_is_refused_with_the_field_at_fault(data: bytes, named: str) -> None:
    with pytest.raises(Undecodable, match=named.replace("$", r"\$")):
        decode(data)


@pytest.mark.parametrize("data", [wire(type="teleport"), wire(schema_version=2), wire(schema_version=2, item_id=None)])
def test_an_unknown_type_or_a_newer_major_version_is_kept_for_later(data: bytes) -> None:
    with pytest.raises(FromTheFuture):
        decode(data)


ids = st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable())
millis = st.integers(min_value=0, max_value=253_402_300_799_999)


@given(
    st.builds(
        Interaction,
        event_id=ids,
        happened_at=millis,
        received_at=millis,
        producer=ids,
        item_id=ids,
        user_id=ids,
        kind=st.sampled_from(Kind),
        value=st.floats(-1e15, 1e15),
        position=st.none() | st.integers(0, 10_000),
    )
)
def test_what_is_written_is_read_back(event: Interaction) -> None:
    assert decode(encode(event)) == event


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A record that was cut, doubled in parts or overwritten."""
    data = draw(st.sampled_from([wire(), wire(kind="rating", value=3.5), wire(type="impression"), wire(position=3)]))
    for _ in range(draw(st.integers(0, 5))):
        first, last = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        part = draw(st.sampled_from([b"", data[first:last] * 2, b"null", b"-1e999", b'"\\ud800"', b"{", b"\xff"]))
        data = data[:first] + part + data[last:]
    return data


@given(damaged())
def test_a_damaged_record_is_refused_or_an_event_that_is_written_and_read_back(data: bytes) -> None:
    with contextlib.suppress(Undecodable, FromTheFuture):
        event = decode(data)
        assert decode(encode(event)) == event


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    with contextlib.suppress(Undecodable, FromTheFuture):
        decode(data)
