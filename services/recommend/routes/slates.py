"""Slates for users and guests."""

from collections.abc import Sequence

from services.api.routes import Call, Reply, Route
from services.recommend import bodies
from services.recommend.parts import Parts
from services.recommend.pipeline import CHAMPION, Ask
from services.recommend.routes.asking import asker_of, post, seed_of, shown, surface_named
from streaming.ids import ItemId, RequestId


class SlateRoutes:
    """Answers with slates, and has them logged."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        types = (bodies.RecommendRequest, bodies.RecommendAnswer)
        return [post("/v1/recommend", "Recommend items.", self._recommend, types)]

    async def _recommend(self, call: Call) -> Reply:
        return Reply(await self._slate(call.body))

    async def _slate(self, body: bodies.RecommendRequest) -> bodies.RecommendAnswer:
        now, request_id = self._parts.now(), RequestId(self._parts.new_id())
        asker = asker_of(body, now, self._parts.new_id)
        surface = surface_named(self._parts.surfaces, body.surface)
        ask = Ask(
            n=body.n,
            surface=surface,
            as_of=now,
            seed=seed_of(request_id),
            categories=body.categories,
            exclude=[ItemId(item_id) for item_id in body.exclude],
            context=body.context,
        )
        slate = await self._parts.pipeline.recommend(request_id, asker, ask)
        return bodies.RecommendAnswer(
            request_id=request_id,
            slate=shown(slate.items),
            surface=surface.name,
            variant=CHAMPION,
            model_version=slate.model_version,
            fallbacks=list(slate.fallbacks),
            session_id=asker.session_id,
        )
