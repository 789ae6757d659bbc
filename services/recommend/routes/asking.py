"""What routes share: from a body to what the pipeline is asked, and from its items to an answer's."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from features.history import HistoryEvent
from services.api.auth import Scope
from services.api.problems import FieldError, invalid
from services.api.routes import Call, Reply, Route, decode_json
from services.recommend import bodies
from services.recommend.pipeline import Asker
from services.recommend.surfaces import Surface
from streaming.events import SlateItem
from streaming.ids import EventId, ItemId, RequestId, SessionId, UserId


def post(path: str, summary: str, handle: Callable[[Call], Awaitable[Reply]], types: tuple[Any, Any]) -> Route:
    """Return a route that takes a body of the first type and answers with the second."""
    body, answer = types
    return Route(
        "POST",
        path,
        summary,
        handle,
        {200: answer},
        Scope.RECOMMEND,
        bodies=(body,),
        decode=partial(decode_json, kind=body),
    )


def refuse_nobody(body: bodies.RecommendRequest | bodies.RankRequest) -> None:
    """Raise a problem when a request does not say for whom."""
    if body.user_id is None and body.session_id is None and not body.events:
        raise invalid([FieldError("user_id", "is required, or else session_id or events: say for whom")])


def asker_of(user_id: str | None, session_id: str | None, events: Sequence[HistoryEvent]) -> Asker:
    """Return for whom."""
    return Asker(
        None if user_id is None else UserId(user_id), None if session_id is None else SessionId(session_id), events
    )


def session_history(events: Sequence[bodies.SessionEvent], now: int) -> list[HistoryEvent]:
    """Return the events of a session, oldest first as they came, at times before `now`, ms."""
    last = len(events)
    return [
        HistoryEvent(
            # Events without a time happened in their order, just now.
            happened_at=now - (last - number) if event.happened_at is None else min(event.happened_at, now - 1),
            event_id=EventId(f"session-{number:03d}"),
            item_id=ItemId(event.item_id),
            kind=event.kind,
            value=event.value,
        )
        for number, event in enumerate(events)
    ]


def surface_named(surfaces: Mapping[str, Surface], name: str) -> Surface:
    """Return a surface; raises a problem when there is none of that name."""
    surface = surfaces.get(name)
    if surface is None:
        raise invalid([FieldError("surface", f"must be one of {', '.join(sorted(surfaces))}")])
    return surface


def seed_of(request_id: RequestId) -> int:
    """Return the seed of a request's draw: the first 52 bits of its id, so that the id alone gives the draw again."""
    return int(request_id[:13], 16)


def item_ids(given: Iterable[str]) -> list[ItemId]:
    """Return ids of a body as those of items."""
    return [ItemId(item_id) for item_id in given]


def shown(items: Sequence[SlateItem]) -> list[bodies.SlateItem]:
    """Return the items as an answer shows them."""
    return [
        bodies.SlateItem(item_id=item.item_id, score=item.score, source=item.source, position=item.position)
        for item in items
    ]
