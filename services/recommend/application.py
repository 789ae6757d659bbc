"""The recommender as an application: its routes, its start and its end."""

from collections.abc import Sequence

from services.api.auth import Gate
from services.api.routes import Call, Reply, Route
from services.api.schemas import Ready
from services.metrics import HttpMetrics
from services.recommend.parts import Parts
from services.recommend.routes.batch import BatchRoutes
from services.recommend.routes.evaluations import EvaluationRoutes
from services.recommend.routes.explaining import ExplainRoutes
from services.recommend.routes.in_force import InForceRoutes
from services.recommend.routes.popular import PopularRoutes
from services.recommend.routes.ranking import RankRoutes
from services.recommend.routes.similar import SimilarRoutes
from services.recommend.routes.slates import SlateRoutes
from services.settings_serving import ServingSettings


class Recommender:
    """Answers what to show."""

    title = "Flywheel recommender"

    def __init__(self, serving: ServingSettings, gate: Gate, http_metrics: HttpMetrics, parts: Parts) -> None:
        self.serving = serving
        self.gate = gate
        self.http_metrics = http_metrics
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        slates = SlateRoutes(self._parts)
        return [
            *slates.routes(),
            *BatchRoutes(slates).routes(),
            *RankRoutes(self._parts).routes(),
            *SimilarRoutes(self._parts).routes(),
            *PopularRoutes(self._parts).routes(),
            *InForceRoutes(self._parts).routes(),
            *ExplainRoutes(self._parts).routes(),
            *EvaluationRoutes(self._parts, self.serving.recommender_workers).routes(),
            Route("GET", "/readyz", "Whether slates can be answered.", self._ready, {200: Ready, 503: Ready}),
        ]

    async def start(self) -> None:
        """Begin to follow the log and the champion."""
        await self._parts.upkeep.start()

    async def stop(self) -> None:
        """End cleanly."""
        await self._parts.upkeep.stop()

    def refresh_metrics(self) -> None:
        """Set the gauges."""
        self._parts.upkeep.refresh(*self._parts.metrics, self._parts.now)

    async def _ready(self, _: Call) -> Reply:
        checks = self._parts.upkeep.checks()
        ready = all(checks.values())
        return Reply(Ready(ready=ready, checks=checks), 200 if ready else 503)
