"""What the recommender's routes ask."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from services.metrics import ImpressionMetrics, RecommendMetrics
from services.recommend.engine import Engine
from services.recommend.evaluation import Evaluations
from services.recommend.explanations import Explanations
from services.recommend.pipeline import Pipeline
from services.recommend.similar import Like, Similar
from services.recommend.surfaces import Surface
from services.recommend.upkeep import Upkeep


@dataclass(frozen=True)
class Parts:
    """What the routes ask, and where times (ms UTC) and random hexadecimal ids of 32 digits come from.

    `surfaces` returns those in force, by name.
    """

    engine: Engine
    pipeline: Pipeline
    surfaces: Callable[[], Mapping[str, Surface]]
    similar: Callable[[Like], Awaitable[Similar | None]]
    evaluations: Evaluations
    explanations: Explanations
    upkeep: Upkeep
    metrics: tuple[RecommendMetrics, ImpressionMetrics]
    now: Callable[[], int]
    new_id: Callable[[], str]
