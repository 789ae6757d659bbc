"""Why a slate was as it was."""

import re
from collections.abc import Sequence

from redis.exceptions import RedisError

from services.api.auth import Scope
from services.api.problems import FieldError, ProblemError, invalid, problem, unavailable
from services.api.routes import Call, Reply, Route
from services.recommend.explain_bodies import ExplainAnswer
from services.recommend.parts import Parts
from services.recommend.recorder import RecordBounds
from streaming.ids import RequestId

_REQUEST_ID = re.compile("[0-9a-f]{32}")


class ExplainRoutes:
    """Answers with what a slate was computed from and what speaks for its items."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        summary, answers = "Explain a slate of the last minutes.", {200: ExplainAnswer}
        return [Route("GET", "/v1/explain/{request_id}", summary, self._explain, answers, Scope.READ_USER)]

    async def _explain(self, call: Call) -> Reply:
        request_id = _request_id(call.path["request_id"])
        explanations = self._parts.explanations
        try:
            answer = await explanations.explain(request_id)
        except (RedisError, OSError) as error:
            raise unavailable("The store that holds the records of slates does not answer.", 1) from error
        if answer is None:
            raise _no_record(request_id, explanations.bounds)
        return Reply(answer, request_id=request_id)


def _request_id(text: str) -> RequestId:
    if not _REQUEST_ID.fullmatch(text):
        raise invalid([FieldError("request_id", "must be the 32 hexadecimal digits of an answer's request_id")])
    return RequestId(text)


def _no_record(request_id: RequestId, bounds: RecordBounds) -> ProblemError:
    detail = (
        f"There is no record of request {request_id}: {bounds.share:.0%} of the requests are recorded, and the newest "
        f"{bounds.most} of a process are kept for {bounds.minutes} minutes. `flywheel explain {request_id}` shows what "
        f"has landed in the lake, `flywheel replay {request_id}` computes a slate of the last day again."
    )
    return ProblemError(problem(404, "no-such-record", detail))
