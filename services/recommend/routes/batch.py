"""Slates for many users at once."""

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec

from services.api.auth import Scope
from services.api.problems import FieldError, ProblemError, invalid
from services.api.routes import Call, Reply, Route, decode_json, decode_part
from services.api.schemas import Body
from services.recommend import bodies
from services.recommend.routes.slates import SlateRoutes

_AT_ONCE = 8  # so that other requests get their turn between

_Part = bodies.RecommendRequest | FieldError


class _Parts(Body, frozen=True):
    requests: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1, max_length=bodies.MAX_REQUESTS)]


class BatchRoutes:
    """Answers many requests, each as if it had come alone; one that is wrong fails alone."""

    def __init__(self, slates: SlateRoutes) -> None:
        self._slates = slates

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        return [
            Route(
                "POST",
                "/v1/recommend/batch",
                "Recommend items to up to 100 users.",
                self._answer_all,
                {200: bodies.BatchAnswer, 207: bodies.BatchAnswer},
                Scope.RECOMMEND,
                bodies=(bodies.RecommendBatch,),
                decode=_parts,
            )
        ]

    async def _answer_all(self, call: Call) -> Reply:
        parts: Sequence[_Part] = call.body
        results: list[bodies.BatchResult] = []
        for start in range(0, len(parts), _AT_ONCE):
            some = enumerate(parts[start : start + _AT_ONCE], start=start)
            answers = (self._answer(part, f"requests[{number}]", call.crowded) for number, part in some)
            results += await asyncio.gather(*answers)
        wrong = [error for result in results for error in result.errors]
        if all(result.answer is None for result in results):
            raise invalid(wrong)
        return Reply(bodies.BatchAnswer(results=results), 207 if wrong else 200)

    async def _answer(self, part: _Part, prefix: str, crowded: bool) -> bodies.BatchResult:
        if isinstance(part, FieldError):
            return bodies.BatchResult(answer=None, errors=[part])
        try:
            return bodies.BatchResult(answer=await self._slates.answer(part, crowded), errors=[])
        except ProblemError as error:
            errors = [FieldError(f"{prefix}.{one.field}", one.detail) for one in error.problem.errors]
            return bodies.BatchResult(answer=None, errors=errors)


def _parts(data: bytes) -> list[_Part]:
    requests = decode_json(data, _Parts).requests
    return [decode_part(part, bodies.RecommendRequest, f"requests[{number}]") for number, part in enumerate(requests)]
