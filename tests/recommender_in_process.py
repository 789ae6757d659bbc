"""The recommender's routes over a loaded engine in this process: no broker, and histories from memory for the store."""

import asyncio
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from features.history import History, event_of
from features.online import UserState
from models.scorer import Scorer
from services.api.auth import Gate
from services.api.front import Front
from services.metrics import HttpMetrics, ImpressionMetrics, RecommendMetrics
from services.recommend.application import Recommender
from services.recommend.engine import Engine
from services.recommend.evaluation import Evaluations
from services.recommend.impressions import Impressions
from services.recommend.parts import Parts
from services.recommend.pipeline import Pipeline
from services.recommend.ranker import Ranker
from services.recommend.similar import find_similar
from services.recommend.state import LastStates, UserStates
from services.recommend.surfaces import BUILT_IN, HOME, Surface
from services.settings_serving import ServingSettings
from streaming.consumer import Received
from streaming.events import Event, Impression
from streaming.ids import UserId
from streaming.namespace import Namespace


@dataclass
class Histories:
    """Stands for the online store's reader; counts how often it was asked."""

    known: Mapping[str, History]
    reads: int = 0

    async def user_state(self, user_id: UserId, as_of: int) -> UserState:
        self.reads += 1
        await asyncio.sleep(0)  # as a store does, it lets others have their turn
        return UserState(self.known.get(user_id, History()), {}, {}, 0)


@dataclass
class Shown:
    """Takes impressions as the log does."""

    impressions: list[Impression] = field(default_factory=list)
    slates: list[tuple[Impression, History]] = field(default_factory=list)

    def offer(self, impression: Impression) -> None:
        self.impressions.append(impression)

    def record(self, impression: Impression, history: History) -> None:
        self.slates.append((impression, history))


@dataclass
class InProcess:
    """A recommender that answers at a time that stands still unless it is moved."""

    engine: Engine
    histories: Histories
    log: Shown
    now: int
    ranker: Ranker
    surfaces: Mapping[str, Surface] = field(default_factory=lambda: BUILT_IN)
    front: Any = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def put(self, *events: Event) -> None:
        self.engine.apply_items([Received(event, b"", "items", 0, number, 0) for number, event in enumerate(events)])

    def use(self, *events: Event) -> None:
        self.engine.apply_interactions(
            [Received(event, b"", "interactions", 0, number, event.received_at) for number, event in enumerate(events)]
        )

    def call(self, method: str, path: str, **body: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.front)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
                return await client.request(method, path, json=body) if body else await client.request(method, path)

        return asyncio.run(send())

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = self.call("POST", path, **body)
        assert answer.status_code in (200, 207), answer.text
        return dict(answer.json())

    def refused(self, path: str, **body: Any) -> dict[str, str]:
        answer = self.call("POST", path, **body)
        assert answer.status_code == 422, answer.text
        return {error["field"]: error["detail"] for error in answer.json()["errors"]}


@contextmanager
def in_process(
    world: Any,
    artifact: tuple[Path, str] | None,
    serving: ServingSettings | None = None,
    ranker: Ranker | None = None,
) -> Iterator[InProcess]:
    """Answer from the world's items and interactions, with the model of `artifact` or without one."""
    engine = Engine()
    by_user: dict[str, list[Any]] = {}
    for event in world.interactions:
        by_user.setdefault(event.user_id, []).append(event_of(event))
    one = InProcess(
        engine,
        Histories({user: History(tuple(sorted(events))) for user, events in by_user.items()}),
        Shown(),
        world.now,
        ranker or Ranker(60.0, time.perf_counter),
    )
    one.put(*world.items)
    one.use(*world.interactions)
    if artifact is not None:
        engine.swap(Scorer.load(artifact[0]))
    one.front = Front(None)  # type: ignore[arg-type]  # nothing behind it is asked
    one.front.open(_application(one, serving or ServingSettings()))
    yield one


def _application(one: InProcess, serving: ServingSettings) -> Recommender:
    registry = one.registry
    metrics = (RecommendMetrics(registry), ImpressionMetrics(registry))
    states = UserStates(one.histories, 5.0, 1_000, LastStates(0, time.monotonic), lambda _: None)  # type: ignore[arg-type]
    parts = Parts(
        engine=one.engine,
        pipeline=Pipeline(
            one.engine,
            states,
            Impressions(one.log, 0.0, one.log.record),
            metrics[0],
            time.perf_counter,
            one.ranker,
        ),
        surfaces=lambda: one.surfaces,
        similar=lambda like: one.engine.compute(lambda live: find_similar(live, like)),
        evaluations=Evaluations(one.engine, states, lambda: BUILT_IN[HOME], 60, time.monotonic),
        explanations=None,  # type: ignore[arg-type]  # there is no store of records
        upkeep=None,  # type: ignore[arg-type]  # nothing is followed
        metrics=metrics,
        now=lambda: one.now,
        new_id=lambda: uuid.uuid4().hex,
    )
    gate = Gate(None, Namespace("inprocess"), time.monotonic)
    return Recommender(serving, gate, HttpMetrics(registry), parts)
