"""What is in force: the surfaces with their rules, and the model."""

from collections.abc import Sequence
from typing import Any

import msgspec

from services.api.auth import Scope
from services.api.routes import Call, Reply, Route
from services.recommend import bodies
from services.recommend.live import Live
from services.recommend.parts import Parts
from services.recommend.surfaces import Surface


class InForceRoutes:
    """Answers with what slates are made by."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        surfaces, models = {200: bodies.SurfacesAnswer}, {200: bodies.ModelsAnswer}
        return [
            Route(
                "GET", "/v1/surfaces", "List the surfaces and their rules.", self._surfaces, surfaces, Scope.RECOMMEND
            ),
            Route("GET", "/v1/models", "Tell which model answers.", self._models, models, Scope.RECOMMEND),
        ]

    async def _surfaces(self, _: Call) -> Reply:
        surfaces = sorted(self._parts.surfaces().values(), key=lambda surface: surface.name)
        return Reply(
            bodies.SurfacesAnswer(
                version=surfaces[0].version,
                surfaces=[bodies.SurfaceRules(name=surface.name, rules=_rules(surface)) for surface in surfaces],
            )
        )

    async def _models(self, _: Call) -> Reply:
        loaded = await self._parts.engine.compute(_loaded)
        return Reply(bodies.ModelsAnswer(loaded=loaded, previous=self._parts.engine.previous_version))


def _rules(surface: Surface) -> dict[str, Any]:
    rules: dict[str, Any] = msgspec.to_builtins(surface)
    return {name: value for name, value in rules.items() if name not in ("name", "version")}


def _loaded(live: Live) -> bodies.LoadedModel | None:
    scorer = live.scorer
    if scorer is None:
        return None
    return bodies.LoadedModel(
        model_version=scorer.version, trained_until=scorer.trained_until, conversions=list(scorer.conversions)
    )
