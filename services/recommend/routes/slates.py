"""Slates for users and guests, page by page."""

from collections.abc import Sequence

import msgspec

from services.api.problems import FieldError, invalid
from services.api.routes import Call, Reply, Route
from services.recommend import bodies
from services.recommend.overload import relieved
from services.recommend.pages import BadCursor, Cursor, Question, read_cursor, write_cursor
from services.recommend.parts import Parts
from services.recommend.pipeline import CHAMPION, Ask, Slate
from services.recommend.routes.asking import (
    asker_of,
    item_ids,
    post,
    refuse_nobody,
    seed_of,
    session_history,
    shown,
    surface_named,
)
from streaming.ids import RequestId


class SlateRoutes:
    """Answers with slates, and has them logged."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        guest = (bodies.SessionRequest, bodies.RecommendAnswer)
        return [
            post(
                "/v1/recommend", "Recommend items.", self._recommend, (bodies.RecommendRequest, bodies.RecommendAnswer)
            ),
            post("/v1/session/recommend", "Recommend items to a guest, by the session alone.", self._guest, guest),
        ]

    async def answer(self, body: bodies.RecommendRequest, crowded: bool) -> bodies.RecommendAnswer:
        """Return a slate for whom the body says; raises a problem that names the field at fault."""
        refuse_nobody(body)
        return await self._slate(body, body.user_id, crowded)

    async def _recommend(self, call: Call) -> Reply:
        return _reply(await self.answer(call.body, call.crowded))

    async def _guest(self, call: Call) -> Reply:
        return _reply(await self._slate(call.body, None, call.crowded))

    async def _slate(self, body: bodies.SessionRequest, user_id: str | None, crowded: bool) -> bodies.RecommendAnswer:
        now, request_id = self._parts.now(), RequestId(self._parts.new_id())
        surfaces = self._parts.surfaces()
        surface = surface_named(surfaces, body.surface)
        cursor = None if body.cursor is None else _opened(body.cursor, now)
        question = self._question(body, user_id, cursor)
        before = [] if cursor is None else cursor.shown
        ask = Ask(
            n=body.n,
            surface=surface,
            as_of=now,
            seed=seed_of(request_id),
            categories=body.categories,
            exclude=item_ids(body.exclude),
            context=body.context,
            shown=item_ids(before),
            why=body.why,
        )
        if crowded:
            ask = relieved(ask, surfaces)
        asker = asker_of(user_id, question.session_id, session_history(body.events, now))
        slate = await self._parts.pipeline.recommend(request_id, asker, ask)
        so_far = [*before, *(item.item_id for item in slate.items)]
        more = len(slate.items) == body.n
        return bodies.RecommendAnswer(
            request_id=request_id,
            slate=_explained(slate),
            surface=surface.name,
            surfaces_version=surface.version,
            variant=CHAMPION,
            model_version=slate.model_version,
            fallbacks=list(slate.fallbacks),
            session_id=question.session_id,
            cursor=write_cursor(now if cursor is None else cursor.began, question, so_far) if more else None,
        )

    def _question(self, body: bodies.SessionRequest, user_id: str | None, cursor: Cursor | None) -> Question:
        """Return what stays the same from page to page. A guest without a session's id gets one, and keeps it."""
        session_id = body.session_id
        if session_id is None and cursor is not None:
            session_id = cursor.session_id
        if session_id is None and user_id is None:
            session_id = self._parts.new_id()
        question = Question(user_id, session_id, body.surface, body.categories, body.exclude)
        if cursor is not None:
            try:
                cursor.check(question)
            except BadCursor as error:
                raise _bad_cursor(error) from error
        return question


def _reply(answer: bodies.RecommendAnswer) -> Reply:
    return Reply(answer, request_id=answer.request_id)


def _opened(text: str, now: int) -> Cursor:
    try:
        return read_cursor(text, now)
    except BadCursor as error:
        raise _bad_cursor(error) from error


def _bad_cursor(error: BadCursor) -> Exception:
    return invalid([FieldError("cursor", str(error))])


def _explained(slate: Slate) -> list[bodies.SlateItem]:
    items = shown(slate.items)
    if not slate.reasons:
        return items
    return [msgspec.structs.replace(item, why=why) for item, why in zip(items, slate.reasons, strict=True)]
