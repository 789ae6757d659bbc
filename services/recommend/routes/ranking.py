"""A caller's list in order."""

from collections.abc import Sequence

import msgspec

from services.api.routes import Call, Reply, Route
from services.recommend import bodies
from services.recommend.parts import Parts
from services.recommend.pipeline import Ask, Computed
from services.recommend.rank import Ordered, order_given
from services.recommend.routes.asking import asker_of, item_ids, post, refuse_nobody, session_history, surface_named
from streaming.ids import RequestId


class RankRoutes:
    """Answers with a caller's list in the order of a user's scores."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [post("/v1/rank", "Order a list of items.", self._rank, (bodies.RankRequest, bodies.RankAnswer))]

    async def _rank(self, call: Call) -> Reply:
        body: bodies.RankRequest = call.body
        refuse_nobody(body)
        now = self._parts.now()
        surface = surface_named(self._parts.surfaces(), body.surface)
        if body.weights is not None:
            surface = msgspec.structs.replace(surface, weights=body.weights)
        asker = asker_of(body.user_id, self._session_id(body), session_history(body.events, now))
        ask = Ask(n=len(body.items), surface=surface, as_of=now, seed=None)
        rank = self._parts.pipeline.rank_from_now()
        state = await self._parts.pipeline.state_of(asker, now)
        given = item_ids(body.items)
        ordered = await self._parts.engine.compute(lambda live: order_given(live, ask, state, given, rank))
        request_id = RequestId(self._parts.new_id()) if body.log else None
        if request_id is not None:
            computed = Computed(ordered.slate, state, self._parts.engine.offsets)
            self._parts.pipeline.log(request_id, asker, ask, computed)
        return Reply(
            bodies.RankAnswer(
                items=_ranked(ordered),
                request_id=request_id,
                surface=surface.name,
                model_version=ordered.slate.model_version,
                fallbacks=list(ordered.slate.fallbacks),
                session_id=asker.session_id,
            ),
            request_id=request_id,
        )

    def _session_id(self, body: bodies.RankRequest) -> str | None:
        """Return the session's id. A guest without one gets one when clicks may follow."""
        if body.session_id is None and body.user_id is None and body.log:
            return self._parts.new_id()
        return body.session_id


def _ranked(ordered: Ordered) -> list[bodies.RankedItem]:
    known = [
        bodies.RankedItem(item_id=item.item_id, position=item.position, known=True, score=item.score)
        for item in ordered.slate.items
    ]
    return known + [
        bodies.RankedItem(item_id=item_id, position=position, known=False, score=None)
        for position, item_id in enumerate(ordered.unknown, start=len(known))
    ]
