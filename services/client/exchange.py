"""What is sent and what follows from the answers, without sending anything: steps for a client of either kind.

A step is a request to send, whose reply is handed back, or a wait.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
import msgspec

from services.api.problems import FieldError, Problem
from services.api.routes import JSON, NDJSON
from services.api.schemas import MAX_BATCH
from services.client.errors import Refused, Unavailable
from services.client.retry import AGAIN, Retry, asked_wait_s
from services.collect.bodies import Accepted, Result

T = TypeVar("T")

_MOST_BYTES = 900_000  # below the services' default limit of a body


@dataclass(frozen=True)
class Request:
    """A request to send."""

    method: str
    path: str
    content: bytes = b""
    media_type: str = JSON


@dataclass(frozen=True)
class Wait:
    """Seconds to wait."""

    seconds: float


Reply = httpx.Response | httpx.RequestError | None
Steps = Generator[Request | Wait, Reply, T]


def ask(request: Request, answer: type[T], retry: Retry) -> Steps[T]:
    """Send a request until it is answered; returns the decoded answer. Raises Refused and Unavailable.

    A success that cannot be read, such as a proxy's page, is a failure that may pass.
    """
    tries = _Tries(request.path, retry)
    while True:
        reply = yield request
        if isinstance(reply, httpx.Response) and reply.status_code not in AGAIN:
            if not reply.is_success:
                raise Refused(request.path, _problem(reply))
            decoded = _decoded(reply, answer)
            if decoded is not None:
                return decoded
        yield tries.failed(reply)


def deliver(path: str, parts: Sequence[msgspec.Struct], retry: Retry) -> Steps[list[Result]]:
    """Send parts until each is durable or refused; returns what became of each, in their order.

    What a collector says is durable is not sent again. Raises Refused when a whole body is, and Unavailable with the
    results so far.
    """
    lines = [msgspec.json.encode(part) for part in parts]
    results: list[Result | None] = [None] * len(lines)
    for chunk in _chunks(lines):
        tries = _Tries(path, retry)
        while left := [number for number in chunk if results[number] is None]:
            reply = yield Request("POST", path, b"\n".join(lines[number] for number in left), NDJSON)
            settled = _settled(reply, left)
            for number, result in settled.items():
                results[number] = result
            if settled:
                tries.begin_anew()
            if len(settled) < len(left):
                _refuse(path, reply)
                yield tries.failed(reply, results)
    return [result for result in results if result is not None]


class _Tries:
    """Counts the failures of one request."""

    def __init__(self, path: str, retry: Retry) -> None:
        self._path = path
        self._retry = retry
        self._failures = 0

    def begin_anew(self) -> None:
        """Forget the failures: something came of the last try."""
        self._failures = 0

    def failed(self, reply: Reply, results: Sequence[Result | None] = ()) -> Wait:
        """Return the wait before the next try; raises Unavailable when there is none."""
        self._failures += 1
        asked_s = 0.0
        why = str(reply) or type(reply).__name__
        if isinstance(reply, httpx.Response):
            asked_s = asked_wait_s(reply.headers.get("retry-after"))
            what = "with a body that is no answer of the service" if reply.is_success else _problem(reply).detail
            why = f"{reply.status_code}, {what}"
        if self._failures >= self._retry.tries:
            raise Unavailable(self._path, self._failures, why, results)
        return Wait(self._retry.wait_s(self._failures, asked_s))


def _settled(reply: Reply, sent: Sequence[int]) -> dict[int, Result]:
    """Return the results that are final, by the part's number: none when the answer does not have one for each."""
    found = _results(reply)
    if len(found) != len(sent):
        return {}
    return {number: result for number, result in zip(sent, found, strict=True) if result.status != "not_durable"}


def _results(reply: Reply) -> Sequence[Result]:
    """Return what an answer says became of the parts; nothing when it cannot be read."""
    if not isinstance(reply, httpx.Response):
        return []
    if reply.is_success:
        answer = _decoded(reply, Accepted)
        return [] if answer is None else answer.results
    said = _problem(reply)
    if reply.status_code == 422:  # every part is refused, each for its own reason
        return [Result(status="rejected", errors=[error]) for error in said.errors]
    try:
        return msgspec.convert(said.results, list[Result])
    except msgspec.ValidationError:
        return []


def _refuse(path: str, reply: Reply) -> None:
    if isinstance(reply, httpx.Response) and reply.status_code not in AGAIN and not reply.is_success:
        raise Refused(path, _problem(reply))


def _chunks(lines: Sequence[bytes]) -> Iterator[list[int]]:
    """Yield the numbers of the lines that go in one body, in order."""
    chunk: list[int] = []
    size = 0
    for number, line in enumerate(lines):
        if chunk and (len(chunk) == MAX_BATCH or size + len(line) > _MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(number)
        size += len(line) + 1
    if chunk:
        yield chunk


class _Said(msgspec.Struct):
    """A problem as it is read: fields that this release does not know are ignored."""

    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    errors: list[FieldError] = []
    results: list[dict[str, object]] = []


def _problem(reply: httpx.Response) -> Problem:
    """Return what an error answer says, whoever it is from: a proxy's is no problem+json."""
    said = _decoded(reply, _Said) or _Said(detail=reply.reason_phrase)
    return Problem(
        type=said.type,
        title=said.title or reply.reason_phrase,
        status=reply.status_code,
        detail=said.detail,
        errors=said.errors,
        results=said.results,
    )


def _decoded(reply: httpx.Response, kind: type[T]) -> T | None:
    """Return the body of an answer, or None when it is nothing of the kind."""
    try:
        return msgspec.json.decode(reply.content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
