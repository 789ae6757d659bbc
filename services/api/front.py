"""The ASGI front: Flywheel's routes are answered here, BentoML's own (probe, metrics, index page) behind it.

BentoML's per-request middlewares cost several times what a recommendation does, and their timeout timers are never
cancelled, which grows the heap that each garbage collection walks. So the front does what they would: limits, deadline,
key check, traces, metrics labelled by route, access log, and problems for everything that goes wrong.
"""

import asyncio
import functools
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from services.api.access_log import AccessLog, Answered
from services.api.auth import Gate
from services.api.cross_origin import CrossOrigin
from services.api.openapi import document
from services.api.problems import MEDIA_TYPE, Problem, ProblemError, problem
from services.api.routes import JSON, Call, Reply, Route, Router
from services.metrics import HttpMetrics, known_method
from services.settings_serving import ServingSettings
from services.tracing import Tracing, trace_id

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = MutableMapping[str, Any]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_OPEN_BEHIND = frozenset({"/", "/livez", "/healthz"})
_ASSETS = "/static_content/"
_METRICS = "/metrics"
_UNMATCHED = "unmatched"
_URGENCY = re.compile(r"(?:^|,)\s*u=([0-7])\s*(?:,|;|$)")  # of RFC 9218: 0 is the most urgent, 3 what is not marked
_BACKGROUND = 5
_DRAINED = 64 * 1024 * 1024  # bytes of a refused body that are read and dropped, so that its sender reads the answer


class Application(Protocol):
    """What a service offers to its front."""

    title: str
    serving: ServingSettings
    gate: Gate
    http_metrics: HttpMetrics

    def routes(self) -> Sequence[Route]:
        """Return the routes."""

    async def start(self) -> None:
        """Begin: requests come from now on."""

    async def stop(self) -> None:
        """End cleanly."""

    def refresh_metrics(self) -> None:
        """Set the gauges that are read off the state when /metrics is asked for."""


class ClientGone(Exception):
    """The client hung up before its request was read."""


@dataclass
class _Request:
    """What is known of a request so far; `started` in seconds of the performance counter."""

    scope: Scope
    receive: Receive
    started: float
    route: str = _UNMATCHED
    is_probe: bool = False
    trace_id: str | None = None


class Front:
    """Answers the application's routes; hands probes, metrics and the index page to BentoML's app."""

    def __init__(self, behind: AsgiApp) -> None:
        self._behind = behind
        self._application: Application | None = None
        self._router = Router(())
        self._in_flight = 0

    def open(self, application: Application) -> None:
        """Answer for `application` from now on."""
        routes = [*application.routes()]
        docs = document(application.title, routes)

        async def answer_docs(_: Call) -> Reply:
            return Reply(docs)

        routes.append(Route("GET", "/docs.json", "The OpenAPI document.", answer_docs, {200: type(docs)}))
        self._router = Router(routes)
        self._log = AccessLog(application.serving.access_log, sys.stderr)
        self._tracing = Tracing.of(application.title, application.serving)
        answer = functools.partial(self._answer, application)
        self._cross_origin = CrossOrigin(answer, routes, application.serving.cors_origins)
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection event, as ASGI asks."""
        application = self._application
        if scope["type"] != "http" or application is None or _is_open(scope["path"]):
            await self._behind(scope, receive, send)
            return
        await self._cross_origin(scope, receive, send)

    async def _answer(self, application: Application, scope: Scope, receive: Receive, send: Send) -> None:
        request = _Request(scope, receive, time.perf_counter())
        try:
            if scope["path"] == _METRICS:
                application.gate.admit(_header(scope, b"authorization"), None, _reached(scope))
                application.refresh_metrics()
                await self._behind(scope, receive, send)
                return
            reply = await self._traced(application, request)
        except ProblemError as error:
            reply = _refusal(error)
        except ClientGone:
            return
        except Exception:
            # Counted before the answer, which a client that is gone does not take; the server logs the error.
            detail = "Something went wrong on our side; the log has the details."
            reply = Reply(problem(500, "internal-error", detail), 500)
            self._answered(application, request, reply)
            await _send(send, reply)
            raise
        await _send(send, reply)
        self._answered(application, request, reply)

    async def _traced(self, application: Application, request: _Request) -> Reply:
        """Return the reply of the route, or the problem that it raised."""
        scope = request.scope
        route, values = self._router.match(scope["method"], scope["raw_path"].partition(b"?")[0])
        request.route, request.is_probe = route.path, route.scope is None
        with self._tracing.request(route.path, _header(scope, b"traceparent")) as span:
            request.trace_id = trace_id(span)
            try:
                reply = await self._reply(application, route, values, request)
            except ProblemError as error:
                reply = _refusal(error)
            span.set_attribute("http.response.status_code", reply.status)
        return reply

    async def _reply(
        self, application: Application, route: Route, values: Mapping[str, str], request: _Request
    ) -> Reply:
        scope, serving = request.scope, application.serving
        if route.scope is not None:
            application.gate.admit(_header(scope, b"authorization"), route.scope, _reached(scope))
        if route.scope is not None and self._in_flight >= _limit(scope, serving):  # a busy process is alive and ready
            raise ProblemError(
                problem(429, "too-many-requests", "More requests are in progress than this process takes."),
                {"retry-after": "1"},
            )
        self._in_flight += 1
        try:
            async with asyncio.timeout(serving.request_deadline_ms / 1000 if route.has_deadline else None):
                data = await _read_body(request.receive, serving.max_body_bytes)
                crowded = self._in_flight > serving.overload_in_flight
                return await route.handle(Call(_decode(route, scope, data), values, crowded))
        except TimeoutError as error:
            detail = f"The request took longer than {serving.request_deadline_ms} ms."
            raise ProblemError(problem(504, "deadline-exceeded", detail)) from error
        finally:
            self._in_flight -= 1

    def _answered(self, application: Application, request: _Request, reply: Reply) -> None:
        """Count and log an answer."""
        seconds, method = time.perf_counter() - request.started, request.scope["method"]
        application.http_metrics.answered(request.route, method, reply.status, seconds)
        if self._log.wants(reply.status) and not request.is_probe:
            self._log.write(
                Answered(
                    at=time.time_ns() // 1_000_000,
                    service=application.title,
                    method=known_method(method),
                    route=request.route,
                    status=reply.status,
                    ms=round(1_000 * seconds, 3),
                    request_id=reply.request_id,
                    trace_id=request.trace_id,
                )
            )


def _is_open(path: str) -> bool:
    """Whether BentoML answers a path, for everybody."""
    return path in _OPEN_BEHIND or path.startswith(_ASSETS)


def _refusal(error: ProblemError) -> Reply:
    return Reply(error.problem, error.problem.status, error.headers)


def _limit(scope: Scope, serving: ServingSettings) -> int:
    """Return how many requests may be in progress for this one to be taken as well."""
    urgency = _URGENCY.search(_header(scope, b"priority") or "")
    is_background = urgency is not None and int(urgency[1]) >= _BACKGROUND
    return min(serving.background_in_flight, serving.max_in_flight) if is_background else serving.max_in_flight


def _decode(route: Route, scope: Scope, data: bytes) -> Any:
    if route.decode is None:
        return None
    media_type = (_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    decode = route.decoders.get(media_type)
    if decode is None:
        # A web page can post text to loopback without asking, but neither of these.
        taken = " or ".join(f"`Content-Type: {known}`" for known in route.decoders)
        raise ProblemError(problem(415, "unsupported-media-type", f"Send the body as {taken}."))
    return decode(data)


async def _read_body(receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size <= limit:
            chunks.append(chunk)
        if size > _DRAINED or not message.get("more_body", False):
            break
    if size > limit:
        raise ProblemError(problem(413, "body-too-large", f"The body is larger than {limit} bytes."))
    return b"".join(chunks)


async def _send(send: Send, reply: Reply) -> None:
    body = b"" if reply.body is None else msgspec.json.encode(reply.body)
    media_type = MEDIA_TYPE if isinstance(reply.body, Problem) else JSON
    headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return None


def _reached(scope: Scope) -> str:
    server = scope.get("server")
    return str(server[0]) if server else ""
