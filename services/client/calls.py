"""The calls as steps: what both clients send for each of their methods."""

import time
import uuid
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import quote

import msgspec

from services.client.errors import ClientError
from services.client.exchange import Request, Steps, ask, deliver
from services.client.retry import Retry
from services.collect.bodies import Accepted, EventBody, IdentityBody, ItemBody, Result, UserBody
from services.recommend.bodies import (
    RankAnswer,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    SimilarAnswer,
    SimilarRequest,
)

_Part = TypeVar("_Part", ItemBody, UserBody, IdentityBody)


def complete(event: EventBody) -> EventBody:
    """Return the event with an id and a time: with both, it counts once however often it is sent."""
    return msgspec.structs.replace(
        event,
        event_id=uuid.uuid4().hex if event.event_id is None else event.event_id,
        happened_at=time.time_ns() // 1_000_000 if event.happened_at is None else event.happened_at,
    )


def tracked(event: EventBody) -> EventBody:
    """Return the event as `complete` does; raises ClientError when it cannot be written, as with numbers of NumPy."""
    event = complete(event)
    try:
        msgspec.json.encode(event)
    except (TypeError, ValueError) as error:
        raise ClientError(f"the event cannot be written as JSON: {error}") from error
    return event


def send_events(events: Sequence[EventBody], retry: Retry) -> Steps[list[Result]]:
    """Return the steps that make events durable."""
    return deliver("/v1/events", [complete(event) for event in events], retry)


def send_items(items: Sequence[ItemBody], retry: Retry) -> Steps[list[Result]]:
    """Return the steps that add or change items."""
    return deliver("/v1/items", [_named(item) for item in items], retry)


def send_users(users: Sequence[UserBody], retry: Retry) -> Steps[list[Result]]:
    """Return the steps that add or change users."""
    return deliver("/v1/users", [_named(user) for user in users], retry)


def send_identities(identities: Sequence[IdentityBody], retry: Retry) -> Steps[list[Result]]:
    """Return the steps that join sessions to users."""
    return deliver("/v1/identities", [_named(identity) for identity in identities], retry)


def remove_item(item_id: str, retry: Retry) -> Steps[Accepted]:
    """Return the steps that take an item out of the catalogue."""
    return ask(Request("DELETE", f"/v1/items/{quote(item_id, safe='')}"), Accepted, retry)


def recommend(question: RecommendRequest, retry: Retry) -> Steps[RecommendAnswer]:
    """Return the steps that ask for a slate."""
    return ask(_post("/v1/recommend", question), RecommendAnswer, retry)


def rank(question: RankRequest, retry: Retry) -> Steps[RankAnswer]:
    """Return the steps that ask for an order."""
    return ask(_post("/v1/rank", question), RankAnswer, retry)


def similar(question: SimilarRequest, retry: Retry) -> Steps[SimilarAnswer]:
    """Return the steps that ask for similar items."""
    return ask(_post("/v1/similar", question), SimilarAnswer, retry)


def _post(path: str, body: msgspec.Struct) -> Request:
    return Request("POST", path, msgspec.json.encode(body))


def _named(part: _Part) -> _Part:
    return part if part.event_id is not None else msgspec.structs.replace(part, event_id=uuid.uuid4().hex)
