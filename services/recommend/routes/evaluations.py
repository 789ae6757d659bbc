"""Evaluations: past times asked over a copy of the state."""

from collections.abc import Sequence
from dataclasses import replace

from features.history import HistoryEvent
from services.api.auth import Scope
from services.api.problems import ProblemError, problem, unavailable
from services.api.routes import Call, Reply, Route
from services.recommend import evaluation_bodies as bodies
from services.recommend.evaluation import Evaluation, Step, StoreAway, TooMany
from services.recommend.parts import Parts
from services.recommend.routes.asking import post, shown
from streaming.ids import ItemId, UserId

_PATH = "/v1/evaluations/{evaluation_id}"
_RETRY_AFTER_S = 2


class EvaluationRoutes:
    """Begins, asks and ends evaluations, which one process alone can hold."""

    def __init__(self, parts: Parts, workers: int) -> None:
        self._parts = parts
        self._workers = workers

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        asked = post(
            f"{_PATH}/recommend",
            "Ask as of past times and feed what happened next.",
            self._ask,
            (bodies.EvaluationRequest, bodies.EvaluationAnswer),
        )
        return [
            Route(
                "POST",
                "/v1/evaluations",
                "Begin an evaluation on a copy of the state.",
                self._start,
                {200: bodies.EvaluationStarted},
                Scope.ADMIN,
                problems=(409,),
            ),
            replace(asked, scope=Scope.ADMIN, has_deadline=False),
            Route("DELETE", _PATH, "End an evaluation.", self._end, {204: None}, Scope.ADMIN),
        ]

    async def _start(self, _: Call) -> Reply:
        if self._workers != 1:
            detail = "Evaluation keeps its state in one process: set FLYWHEEL_SERVING__RECOMMENDER_WORKERS to 1."
            raise ProblemError(problem(409, "too-many-workers", detail))
        evaluation_id = self._parts.new_id()
        try:
            await self._parts.evaluations.start(evaluation_id)
        except TooMany as error:
            raise ProblemError(problem(429, "too-many-evaluations", f"{error}."), {"retry-after": "60"}) from error
        return Reply(bodies.EvaluationStarted(evaluation_id=evaluation_id))

    async def _ask(self, call: Call) -> Reply:
        body: bodies.EvaluationRequest = call.body
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
            bodies.EvaluationSlate(slate=shown(slate.items), fallbacks=list(slate.fallbacks)) for slate in slates
        ]
        return Reply(bodies.EvaluationAnswer(slates=answers, model_version=evaluation.model_version))

    async def _end(self, call: Call) -> Reply:
        self._evaluation(call)
        self._parts.evaluations.end(call.path["evaluation_id"])
        return Reply(None, 204)

    def _evaluation(self, call: Call) -> Evaluation:
        evaluation = self._parts.evaluations.get(call.path["evaluation_id"])
        if evaluation is None:
            raise ProblemError(problem(404, "no-such-evaluation", "There is no such evaluation, or it was dropped."))
        return evaluation


def _fed(event: bodies.EvaluationEvent, evaluation: Evaluation) -> HistoryEvent:
    return HistoryEvent(event.happened_at, evaluation.next_event_id(), ItemId(event.item_id), event.kind, event.value)
