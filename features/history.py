"""A user's history: what the model reads, newest last. Pure functions, the same live, in evaluation and in tests."""

from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

import msgspec

from streaming.events import Interaction, Kind
from streaming.ids import EventId, ItemId


# Without cycles, so the garbage collector need not know of any: a request decodes a whole history of them.
class HistoryEvent(msgspec.Struct, frozen=True, array_like=True, order=True, gc=False):
    """One interaction; `happened_at` in ms UTC. Field order is the order of events: time, then event id."""

    happened_at: int
    event_id: EventId
    item_id: ItemId
    kind: Kind
    value: float | None = None


class History(NamedTuple):
    """A user's newest interactions, oldest first, negative feedback included."""

    events: tuple[HistoryEvent, ...] = ()

    @property
    def items(self) -> list[ItemId]:
        """The items in order, newest last, with repeats."""
        return [event.item_id for event in self.events]

    def before(self, as_of: int) -> "History":
        """Return what had happened strictly before `as_of`, ms."""
        return History(tuple(event for event in self.events if event.happened_at < as_of))


_time_and_id = attrgetter("happened_at", "event_id")
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(tuple[HistoryEvent, ...])


def event_of(interaction: Interaction) -> HistoryEvent:
    """Return the part of an interaction that a history keeps."""
    return HistoryEvent(
        happened_at=interaction.happened_at,
        event_id=EventId(interaction.event_id),
        item_id=ItemId(interaction.item_id),
        kind=interaction.kind,
        value=interaction.value,
    )


def merge(history: History, events: Iterable[HistoryEvent], limit: int) -> History:
    """Return the newest `limit` of both by (happened_at, event_id), each event id once.

    The result depends neither on the order of `events` nor on how often one comes: merging in any grouping ends the
    same. Of two events with one id the later one holds.
    """
    by_id: dict[EventId, HistoryEvent] = {}
    for event in (*history.events, *events):
        known = by_id.get(event.event_id)
        if known is None or _order(known) < _order(event):
            by_id[event.event_id] = event
    newest = sorted(by_id.values(), key=_time_and_id)[-limit:]
    return History(tuple(newest))


def encode_history(history: History) -> bytes:
    """Return the stored form of a history, msgpack."""
    return _encoder.encode(history.events)


def decode_history(data: bytes) -> History:
    """Return the history in `data`; raises msgspec.DecodeError when it holds none."""
    return History(_decoder.decode(data))


def _order(event: HistoryEvent) -> tuple[int, str, str, bool, float]:
    # A total order that also ranks a missing value, so that clashing copies of one id resolve the same everywhere.
    value = event.value
    return (event.happened_at, event.item_id, event.kind, value is not None, value if value is not None else 0.0)
