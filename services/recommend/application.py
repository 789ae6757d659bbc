"""The recommender's routes: each turns a body into a question and its result into an answer."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from features.history import HistoryEvent
from services.api import schemas
from services.api.auth import Gate, Scope
from services.api.problems import FieldError, ProblemError, invalid, problem, unavailable
from services.api.routes import Call, Reply, Route, decode_json
from services.metrics import HttpMetrics, ImpressionMetrics, RecommendMetrics
from services.recommend.evaluation import Evaluation, Evaluations, Step, StoreAway, TooMany
from services.recommend.pipeline import CHAMPION, Ask, Asker, Pipeline
from services.recommend.similar import Like, Similar
from services.recommend.surfaces import Surface
from services.recommend.upkeep import Upkeep
from services.settings_serving import ServingSettings
from streaming.events import SlateItem
from streaming.ids import EventId, ItemId, RequestId, SessionId, UserId

_RETRY_AFTER_S = 2


@dataclass(frozen=True)
class Parts:
    """What the routes ask, and where times (ms UTC) and random hexadecimal ids of 32 digits come from."""

    pipeline: Pipeline
    surfaces: Callable[[], Mapping[str, Surface]]
    similar: Callable[[Like], Awaitable[Similar | None]]
    evaluations: Evaluations
    upkeep: Upkeep
    metrics: tuple[RecommendMetrics, ImpressionMetrics]
    now: Callable[[], int]
    new_id: Callable[[], str]


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
        evaluation = "/v1/evaluations/{evaluation_id}"
        return [
            _post(
                "/v1/recommend",
                "Recommend items.",
                self._recommend,
                (schemas.RecommendRequest, schemas.RecommendAnswer),
            ),
            _post(
                "/v1/similar", "Find items like one.", self._similar, (schemas.SimilarRequest, schemas.SimilarAnswer)
            ),
            Route(
                "POST",
                "/v1/evaluations",
                "Begin an evaluation on a copy of the state.",
                self._start_evaluation,
                {200: schemas.EvaluationStarted},
                Scope.ADMIN,
                problems=(409,),
            ),
            replace(
                _post(
                    f"{evaluation}/recommend",
                    "Ask as of past times and feed what happened next.",
                    self._evaluate,
                    (schemas.EvaluationRequest, schemas.EvaluationAnswer),
                ),
                scope=Scope.ADMIN,
                has_deadline=False,
            ),
            Route("DELETE", evaluation, "End an evaluation.", self._end_evaluation, {204: None}, Scope.ADMIN),
            Route(
                "GET",
                "/readyz",
                "Whether slates can be answered.",
                self._ready,
                {200: schemas.Ready, 503: schemas.Ready},
            ),
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

    async def _recommend(self, call: Call) -> Reply:
        body: schemas.RecommendRequest = call.body
        now, request_id = self._parts.now(), RequestId(self._parts.new_id())
        asker = _asker(body, now, self._parts.new_id)
        surface = self._surface(body.surface)
        ask = Ask(
            n=body.n,
            surface=surface,
            as_of=now,
            seed=_seed(request_id),
            categories=body.categories,
            exclude=[ItemId(item_id) for item_id in body.exclude],
            context=body.context,
        )
        slate = await self._parts.pipeline.recommend(request_id, asker, ask)
        return Reply(
            schemas.RecommendAnswer(
                request_id=request_id,
                slate=_shown(slate.items),
                surface=surface.name,
                surfaces_version=surface.version,
                variant=CHAMPION,
                model_version=slate.model_version,
                fallbacks=list(slate.fallbacks),
                session_id=asker.session_id,
            )
        )

    async def _similar(self, call: Call) -> Reply:
        body: schemas.SimilarRequest = call.body
        exclude = [ItemId(item_id) for item_id in body.exclude]
        like = Like(ItemId(body.item_id), body.n, self._parts.now(), body.categories, exclude)
        found = await self._parts.similar(like)
        if found is None:
            raise ProblemError(
                problem(
                    404,
                    "no-such-item",
                    f"The catalogue has no item {body.item_id!r}.",
                    errors=[FieldError("item_id", "is not in the catalogue")],
                )
            )
        slate = [
            schemas.SlateItem(item_id=item.item_id, score=item.score, source=item.source, position=position)
            for position, item in enumerate(found.items)
        ]
        return Reply(
            schemas.SimilarAnswer(slate=slate, model_version=found.model_version, fallbacks=list(found.fallbacks))
        )

    async def _start_evaluation(self, _: Call) -> Reply:
        if self.serving.recommender_workers != 1:
            detail = "Evaluation keeps its state in one process: set FLYWHEEL_SERVING__RECOMMENDER_WORKERS to 1."
            raise ProblemError(problem(409, "too-many-workers", detail))
        evaluation_id = self._parts.new_id()
        try:
            await self._parts.evaluations.start(evaluation_id)
        except TooMany as error:
            raise ProblemError(problem(429, "too-many-evaluations", f"{error}."), {"retry-after": "60"}) from error
        return Reply(schemas.EvaluationStarted(evaluation_id=evaluation_id))

    async def _evaluate(self, call: Call) -> Reply:
        body: schemas.EvaluationRequest = call.body
        evaluation = self._evaluation(call)
        steps = [
            Step(UserId(step.user_id), step.as_of, step.n, [_fed(event, evaluation) for event in step.then])
            for step in body.steps
        ]
        try:
            slates = await self._parts.evaluations.answer(evaluation, steps)
        except StoreAway as error:
            raise unavailable(f"{error}.", _RETRY_AFTER_S) from error
        answers = [
            schemas.EvaluationSlate(slate=_shown(slate.items), fallbacks=list(slate.fallbacks)) for slate in slates
        ]
        return Reply(schemas.EvaluationAnswer(slates=answers, model_version=evaluation.model_version))

    async def _end_evaluation(self, call: Call) -> Reply:
        self._evaluation(call)
        self._parts.evaluations.end(call.path["evaluation_id"])
        return Reply(None, 204)

    async def _ready(self, _: Call) -> Reply:
        checks = self._parts.upkeep.checks()
        ready = all(checks.values())
        return Reply(schemas.Ready(ready=ready, checks=checks), 200 if ready else 503)

    def _evaluation(self, call: Call) -> Evaluation:
        evaluation = self._parts.evaluations.get(call.path["evaluation_id"])
        if evaluation is None:
            raise ProblemError(problem(404, "no-such-evaluation", "There is no such evaluation, or it was dropped."))
        return evaluation

    def _surface(self, name: str) -> Surface:
        surfaces = self._parts.surfaces()
        surface = surfaces.get(name)
        if surface is None:
            raise invalid([FieldError("surface", f"must be one of {', '.join(sorted(surfaces))}")])
        return surface


def _fed(event: schemas.EvaluationEvent, evaluation: Evaluation) -> HistoryEvent:
    return HistoryEvent(event.happened_at, evaluation.next_event_id(), ItemId(event.item_id), event.kind, event.value)


def _post(path: str, summary: str, handle: Callable[[Call], Awaitable[Reply]], types: tuple[Any, Any]) -> Route:
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
        problems=(404,),
    )


def _asker(body: schemas.RecommendRequest, now: int, new_id: Callable[[], str]) -> Asker:
    """Return for whom; raises a problem when the request does not say. A session without id gets one."""
    if body.user_id is None and body.session_id is None and not body.events:
        raise invalid([FieldError("user_id", "is required, or else session_id or events: say for whom")])
    session_id = body.session_id
    if body.user_id is None and session_id is None:
        session_id = new_id()
    last = len(body.events)
    events = [
        HistoryEvent(
            # Events without a time happened in their order, just now.
            happened_at=now - (last - number) if event.happened_at is None else min(event.happened_at, now - 1),
            event_id=EventId(f"session-{number:03d}"),
            item_id=ItemId(event.item_id),
            kind=event.kind,
            value=event.value,
        )
        for number, event in enumerate(body.events)
    ]
    return Asker(
        None if body.user_id is None else UserId(body.user_id),
        None if session_id is None else SessionId(session_id),
        events,
    )


def _seed(request_id: RequestId) -> int:
    """Return the seed of a request's draw: the first 52 bits of its id, so that the id alone gives the draw again."""
    return int(request_id[:13], 16)


def _shown(items: Sequence[SlateItem]) -> list[schemas.SlateItem]:
    return [
        schemas.SlateItem(item_id=item.item_id, score=item.score, source=item.source, position=item.position)
        for item in items
    ]
