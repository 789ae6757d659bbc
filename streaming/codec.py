"""Events to bytes and back: the one encoder and the one decoder, used by every producer, consumer and Spark job."""

import msgspec

from streaming.events import SCHEMA_VERSION, Event, Interaction, Kind


class Undecodable(ValueError):
    """The bytes are no event, or the event breaks a rule: they belong in the dead-letter topic."""


class FromTheFuture(ValueError):
    """The event has a type or a major version that this release does not know: it is parked until one does."""


class _Head(msgspec.Struct):
    type: str
    schema_version: int = 1


_KNOWN_TYPES = frozenset(str(kind.__struct_config__.tag) for kind in Event.__args__)
# The last is what msgspec says of values that are nested too deeply.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Event)
_head_decoder = msgspec.json.Decoder(_Head)


def encode(event: Event) -> bytes:
    """Return the event's wire form, UTF-8 JSON."""
    return _encoder.encode(event)


def decode(data: bytes) -> Event:
    """Return the event in `data`; fields that this release does not know are ignored.

    Raises Undecodable with the reason, or FromTheFuture for an unknown type or a newer major version.
    """
    try:
        event: Event = _decoder.decode(data)
    except _UNREADABLE as error:
        _refuse_the_future(data)
        raise Undecodable(str(error)) from error
    if event.schema_version > SCHEMA_VERSION:
        raise FromTheFuture(f"schema_version {event.schema_version} is newer than {SCHEMA_VERSION}")
    problem = broken_rule(event)
    if problem is not None:
        raise Undecodable(problem)
    return event


def broken_rule(event: Event) -> str | None:
    """Return what is wrong with a well-formed event, naming the field, or None."""
    if isinstance(event, Interaction):
        if event.user_id is None and event.session_id is None:
            return "user_id or session_id is required: say whose interaction this is"
        if event.kind is Kind.RATING and event.value is None:
            return "value is required for kind 'rating': send the rating as a number"
    return None


def _refuse_the_future(data: bytes) -> None:
    try:
        head = _head_decoder.decode(data)
    except _UNREADABLE:
        return
    if head.type not in _KNOWN_TYPES:
        raise FromTheFuture(f"type {head.type!r} is not known")
    if head.schema_version > SCHEMA_VERSION:
        raise FromTheFuture(f"schema_version {head.schema_version} is newer than {SCHEMA_VERSION}")
