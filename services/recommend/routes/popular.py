"""What everybody uses."""

from collections.abc import Sequence
from functools import partial

from services.api.routes import Call, Reply, Route
from services.recommend import bodies
from services.recommend.candidates import POPULAR_DAYS, TRENDING_DAYS
from services.recommend.parts import Parts
from services.recommend.popular import Wanted, find_popular
from services.recommend.routes.asking import item_ids, post


class PopularRoutes:
    """Answers with the most used items, over the windows of the candidate sources of the same names."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        types = (bodies.PopularRequest, bodies.PopularAnswer)
        popular, trending = partial(self._most_used, POPULAR_DAYS), partial(self._most_used, TRENDING_DAYS)
        return [
            post("/v1/popular", f"List the most used items of {POPULAR_DAYS} days.", popular, types),
            post("/v1/trending", f"List the most used items of {TRENDING_DAYS} days.", trending, types),
        ]

    async def _most_used(self, days: int, call: Call) -> Reply:
        body: bodies.PopularRequest = call.body
        wanted = Wanted(body.n, days, self._parts.now(), body.categories, item_ids(body.exclude))
        found = await self._parts.engine.compute(lambda live: find_popular(live, wanted))
        items = [bodies.UsedItem(item_id=item_id, uses=uses) for item_id, uses in found]
        return Reply(bodies.PopularAnswer(items=items, days=days))
