"""Items like an item."""

from collections.abc import Sequence
from dataclasses import replace

from services.api.problems import FieldError, ProblemError, problem
from services.api.routes import Call, Reply, Route
from services.recommend import bodies
from services.recommend.parts import Parts
from services.recommend.routes.asking import item_ids, post, surface_named
from services.recommend.similar import Like
from streaming.ids import ItemId


class SimilarRoutes:
    """Answers with items like one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        types = (bodies.SimilarRequest, bodies.SimilarAnswer)
        return [replace(post("/v1/similar", "Find items like one.", self._similar, types), problems=(404,))]

    async def _similar(self, call: Call) -> Reply:
        body: bodies.SimilarRequest = call.body
        surface = surface_named(self._parts.surfaces(), body.surface)
        like = Like(
            item_id=ItemId(body.item_id),
            n=body.n,
            as_of=self._parts.now(),
            categories=body.categories,
            exclude=item_ids(body.exclude),
            filters=surface.filters,
        )
        found = await self._parts.similar(like)
        if found is None:
            raise _no_such_item(body.item_id)
        slate = [
            bodies.SlateItem(item_id=item.item_id, score=item.score, source=item.source, position=position)
            for position, item in enumerate(found.items)
        ]
        return Reply(
            bodies.SimilarAnswer(slate=slate, model_version=found.model_version, fallbacks=list(found.fallbacks))
        )


def _no_such_item(item_id: str) -> ProblemError:
    errors = [FieldError("item_id", "is not in the catalogue")]
    return ProblemError(problem(404, "no-such-item", f"The catalogue has no item {item_id!r}.", errors=errors))
