"""The collector's bodies: what happened, and what became of each part of it."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from services.api.problems import FieldError
from services.api.schemas import MAX_BATCH, Answer, Body
from streaming.events import Attributes, Categories, Id, Kind, LongText, Millis, ShortText

Status = Literal["accepted", "spooled", "duplicate", "rejected", "not_durable"]
Position = Annotated[int, Meta(ge=0, le=10_000)]


class EventBody(Body, frozen=True):
    """An interaction. Without `event_id` one is made; sending the same id again counts once, on one UTC day.

    At least one of user_id and session_id is needed; a rating needs its value. Without `happened_at` it happened now.
    """

    item_id: Id
    kind: Kind
    user_id: Id | None = None
    session_id: Id | None = None
    surface: Id | None = None
    value: float | None = None
    request_id: Id | None = None
    position: Position | None = None
    event_id: Id | None = None
    happened_at: Millis | None = None


class ItemBody(Body, frozen=True):
    """An item as it is from now on."""

    item_id: Id
    title: ShortText = ""
    categories: Categories = field(default_factory=list)
    attributes: Attributes = field(default_factory=dict)
    text: LongText = ""
    available_from: Millis | None = None
    available_until: Millis | None = None
    hidden: bool = False
    event_id: Id | None = None


class UserBody(Body, frozen=True):
    """A user as they are from now on."""

    user_id: Id
    attributes: Attributes = field(default_factory=dict)
    event_id: Id | None = None


class IdentityBody(Body, frozen=True):
    """A guest's session that turned out to be a known user."""

    session_id: Id
    user_id: Id
    event_id: Id | None = None


class EventBatch(Body, frozen=True):
    """Several interactions."""

    events: Annotated[list[EventBody], Meta(min_length=1, max_length=MAX_BATCH)]


class ItemBatch(Body, frozen=True):
    """Several items."""

    items: Annotated[list[ItemBody], Meta(min_length=1, max_length=MAX_BATCH)]


class UserBatch(Body, frozen=True):
    """Several users."""

    users: Annotated[list[UserBody], Meta(min_length=1, max_length=MAX_BATCH)]


class IdentityBatch(Body, frozen=True):
    """Several identities."""

    identities: Annotated[list[IdentityBody], Meta(min_length=1, max_length=MAX_BATCH)]


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one part of a batch.

    `accepted`: acknowledged by all in-sync replicas of Kafka. `spooled`: on our disk, and in Kafka once it
    answers. `duplicate`: this process accepted or spooled the id before, so it is not sent again. `not_durable`: lost
    unless it is sent again.
    """

    status: Status
    event_id: str | None = None
    errors: list[FieldError] = []


class Accepted(Answer, frozen=True):
    """The results in the order of what was sent, and how many parts are durable, in Kafka or spooled, now or before."""

    accepted: int
    results: list[Result]
