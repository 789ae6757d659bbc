"""What operators see of each request: its trace, its line in the access log, and what is shed first."""

import asyncio
import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client import CollectorRegistry

from services.api.auth import Gate, Scope
from services.api.front import Front
from services.api.problems import ProblemError, problem
from services.api.routes import Call, Reply, Route
from services.api.schemas import Ready
from services.metrics import HttpMetrics
from services.settings_serving import ServingSettings
from services.tracing import record_stages
from streaming.namespace import Namespace

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"


class Shop:
    """An application with a route of two stages, one that refuses and one that waits until it may go on."""

    title = "Flywheel shop"

    def __init__(self, **serving: Any) -> None:
        self.serving = ServingSettings(**serving)
        self.gate = Gate(None, Namespace("observed"), time.monotonic)
        self.http_metrics = HttpMetrics(CollectorRegistry())
        self.go_on = asyncio.Event()
        self.waiting = 0

    def routes(self) -> Sequence[Route]:
        def route(path: str, handle: Callable[[Call], Any]) -> Route:
            return Route("GET", path, path, handle, {200: Ready}, Scope.RECOMMEND)

        return [
            route("/slate/{user_id}", self._slate),
            route("/refused", self._refused),
            route("/broken", self._broken),
            route("/wait", self._wait),
            Route("GET", "/readyz", "Probe", self._unready, {503: Ready}),
        ]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def refresh_metrics(self) -> None: ...

    async def _slate(self, _: Call) -> Reply:
        record_stages({"candidates": 0.002, "ranking": 0.003})
        return Reply(Ready(ready=True, checks={}), request_id="r1")

    async def _refused(self, _: Call) -> Reply:
        raise ProblemError(problem(409, "refused", "No."))

    async def _broken(self, _: Call) -> Reply:
        raise ZeroDivisionError

    async def _unready(self, _: Call) -> Reply:
        return Reply(Ready(ready=False, checks={}), 503)

    async def _wait(self, _: Call) -> Reply:
        self.waiting += 1
        await self.go_on.wait()
        return Reply(Ready(ready=True, checks={}))


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """Stands for BentoML's app."""
    raise AssertionError


def client(shop: Shop) -> httpx.AsyncClient:
    front = Front(behind)
    front.open(shop)
    transport = httpx.ASGITransport(front, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


def get(shop: Shop, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client(shop) as asking:
            return await asking.get(path, headers=headers)

    return asyncio.run(ask())


@pytest.fixture
def received() -> Iterator[tuple[str, "Queue[Span]"]]:
    """An OTLP receiver: its address, and the spans that it gets."""
    spans: Queue[Span] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            data = gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(data).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        spans.put(span)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", spans
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_request_whose_caller_traces_it_is_a_span_with_one_for_each_stage(received: Any) -> None:
    endpoint, spans = received
    shop = Shop(otlp_endpoint=endpoint, trace_share=0.0)
    assert get(shop, "/slate/u1", {"traceparent": SAMPLED}).status_code == 200
    found = {span.name: span for span in (spans.get(timeout=30) for _ in range(3))}
    assert found.keys() == {"/slate/{user_id}", "candidates", "ranking"}
    request = found["/slate/{user_id}"]
    assert request.trace_id.hex() == TRACE
    assert request.parent_span_id.hex() == PARENT
    attributes = {pair.key: pair.value for pair in request.attributes}
    assert attributes["http.response.status_code"].int_value == 200
    assert {found["candidates"].parent_span_id, found["ranking"].parent_span_id} == {request.span_id}
    lasted = {
        name: found[name].end_time_unix_nano - found[name].start_time_unix_nano for name in ("candidates", "ranking")
    }
    assert lasted == {"candidates": 2_000_000, "ranking": 3_000_000}
    assert found["ranking"].start_time_unix_nano == found["candidates"].end_time_unix_nano


def test_a_share_of_the_other_requests_is_traced_and_none_whose_caller_says_no(received: Any) -> None:
    endpoint, spans = received
    all_of_them = Shop(otlp_endpoint=endpoint, trace_share=1.0)
    assert get(all_of_them, "/refused", {"traceparent": NOT_SAMPLED}).status_code == 409
    assert get(all_of_them, "/refused").status_code == 409
    span = spans.get(timeout=30)
    assert span.trace_id.hex() != TRACE
    assert {pair.key: pair.value.int_value for pair in span.attributes}["http.response.status_code"] == 409
    assert spans.empty()


def test_the_access_log_has_a_line_of_json_for_what_was_asked_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    shop = Shop(access_log="all")
    get(shop, "/slate/somebody%0asecret")
    get(shop, "/nowhere")
    assert get(shop, "/readyz").status_code == 503  # a probe
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["log"], line["service"], line["route"], line["status"]) for line in lines] == [
        ("access", "Flywheel shop", "/slate/{user_id}", 200),
        ("access", "Flywheel shop", "unmatched", 404),
    ]
    assert lines[0]["request_id"] == "r1"
    assert "request_id" not in lines[1]
    assert all(line["ms"] > 0 and line["at"] > 1_700_000_000_000 and "somebody" not in str(line) for line in lines)


@pytest.mark.parametrize(("mode", "statuses"), [("off", []), ("errors", [500])])
def test_the_access_log_is_quiet_unless_asked(
    mode: str, statuses: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    shop = Shop(access_log=mode)
    for path in ("/slate/u", "/refused", "/broken"):
        get(shop, path)
    written = [json.loads(line)["status"] for line in capsys.readouterr().err.splitlines()]
    assert written == statuses


@pytest.mark.parametrize(
    ("priority", "status"), [("u=5", 429), ("i, u=7", 429), ("u=4", 200), ("", 200), ("u=50", 200), ("lu=7", 200)]
)
def test_requests_of_low_priority_are_shed_first(priority: str, status: int) -> None:
    shop = Shop(max_in_flight=3, background_in_flight=2)

    async def crowd() -> int:
        async with client(shop) as asking:
            others = [asyncio.create_task(asking.get("/wait")) for _ in range(2)]
            while shop.waiting < 2:
                await asyncio.sleep(0)
            answer = await asking.get("/slate/u", headers={"priority": priority})
            shop.go_on.set()
            assert [other.status_code for other in await asyncio.gather(*others)] == [200, 200]
            return answer.status_code

    assert asyncio.run(crowd()) == status
