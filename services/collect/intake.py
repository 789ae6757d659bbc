"""From the bodies that applications send to the events of the log."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from services.api.problems import FieldError, field_error, invalid, rule_error
from services.api.routes import decode_json, decode_part
from services.api.schemas import MAX_BATCH
from services.collect import bodies
from streaming.codec import broken_rule
from streaming.events import (
    ErasureEntered,
    Event,
    IdentityLinked,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    UserErased,
    UserUpserted,
)
from streaming.marks import Marker

PRODUCER = "collector"

_Parts = Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


@dataclass(frozen=True)
class Clerk:
    """Gives events their envelope and checks their times; `now` is ms UTC."""

    now: Callable[[], int]
    new_id: Callable[[], str]
    max_age_ms: int
    max_ahead_ms: int
    marker: Marker

    def interaction(self, body: bodies.EventBody) -> Interaction | FieldError:
        """Return the event, or what is wrong with it."""
        now = self.now()
        happened_at = now if body.happened_at is None else body.happened_at
        if happened_at < now - self.max_age_ms:
            return FieldError("happened_at", f"is more than {self.max_age_ms} ms ago: old events go in by an import")
        if happened_at > now + self.max_ahead_ms:
            return FieldError("happened_at", f"is more than {self.max_ahead_ms} ms ahead of our clock")
        event = Interaction(
            event_id=body.event_id or self.new_id(),
            happened_at=happened_at,
            received_at=now,
            producer=PRODUCER,
            item_id=body.item_id,
            kind=body.kind,
            user_id=body.user_id,
            session_id=body.session_id,
            surface=body.surface,
            value=body.value,
            request_id=body.request_id,
            position=body.position,
        )
        problem = broken_rule(event)
        return event if problem is None else rule_error(problem)

    def item(self, body: bodies.ItemBody) -> ItemUpserted | FieldError:
        """Return the event, or what is wrong with it."""
        starts, ends = body.available_from, body.available_until
        if starts is not None and ends is not None and ends <= starts:
            return FieldError("available_until", "is not after available_from")
        return ItemUpserted(
            **self._envelope(body.event_id),
            item_id=body.item_id,
            title=body.title,
            categories=body.categories,
            attributes=body.attributes,
            text=body.text,
            available_from=starts,
            available_until=ends,
            hidden=body.hidden,
        )

    def removal(self, item_id: str) -> ItemRemoved:
        """Return the event that takes an item out of the catalogue."""
        return ItemRemoved(**self._envelope(None), item_id=item_id)

    def erasure(self, user_id: str) -> tuple[UserErased, ErasureEntered]:
        """Return the events that have a user erased: the request, which is compacted away, and the ledger's entry."""
        return UserErased(**self._envelope(None), user_id=user_id), ErasureEntered(
            **self._envelope(None), mark=self.marker.mark(user_id)
        )

    def user(self, body: bodies.UserBody) -> UserUpserted:
        """Return the event."""
        return UserUpserted(**self._envelope(body.event_id), user_id=body.user_id, attributes=body.attributes)

    def identity(self, body: bodies.IdentityBody) -> IdentityLinked:
        """Return the event."""
        return IdentityLinked(**self._envelope(body.event_id), session_id=body.session_id, user_id=body.user_id)

    def _envelope(self, event_id: str | None) -> dict[str, Any]:
        now = self.now()
        return {"event_id": event_id or self.new_id(), "happened_at": now, "received_at": now, "producer": PRODUCER}


@dataclass(frozen=True)
class Shape:
    """A body that is one `one`, or an object whose only field `plural` is a list of them, or a `one` a line."""

    one: Any
    plural: str
    convert: Callable[[Any], Event | FieldError]

    def parts(self, data: bytes) -> list[Event | FieldError]:
        """Return an event, or what is wrong, for each part of a body; raises a problem when it has no such shape."""
        fields = decode_json(data, dict[str, msgspec.Raw])
        if self.plural not in fields:
            return [self._converted(decode_json(data, self.one), "")]
        unknown = sorted(fields.keys() - {self.plural})
        if unknown:
            raise invalid([FieldError(name, "is not a known field") for name in unknown])
        try:
            parts = msgspec.json.decode(fields[self.plural], type=_Parts)
        except msgspec.ValidationError as error:
            raise invalid([field_error(error, self.plural)]) from error
        return [self._part(part, f"{self.plural}[{number}]") for number, part in enumerate(parts)]

    def lines(self, data: bytes) -> list[Event | FieldError]:
        """Return an event, or what is wrong, for each line of NDJSON that is not blank; raises a problem when too many.

        A line that is no JSON is wrong by itself.
        """
        lines = [line for line in data.split(b"\n") if line.strip()]
        if not 1 <= len(lines) <= MAX_BATCH:
            raise invalid([FieldError(self.plural, f"must be 1 to {MAX_BATCH} lines, and are {len(lines)}")])
        return [self._part(line, f"{self.plural}[{number}]") for number, line in enumerate(lines)]

    def _part(self, data: bytes | msgspec.Raw, prefix: str) -> Event | FieldError:
        body = decode_part(data, self.one, prefix)
        return body if isinstance(body, FieldError) else self._converted(body, f"{prefix}.")

    def _converted(self, body: Any, prefix: str) -> Event | FieldError:
        event = self.convert(body)
        return FieldError(prefix + event.field, event.detail) if isinstance(event, FieldError) else event


def shapes(clerk: Clerk) -> dict[str, Shape]:
    """Return the bodies of the collector's routes by their plural."""
    return {
        "events": Shape(bodies.EventBody, "events", clerk.interaction),
        "items": Shape(bodies.ItemBody, "items", clerk.item),
        "users": Shape(bodies.UserBody, "users", clerk.user),
        "identities": Shape(bodies.IdentityBody, "identities", clerk.identity),
    }
