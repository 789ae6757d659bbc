"""The front: keys and scopes on every route, limits, deadlines, and errors that always are problems."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from features.config import StoreSettings
from services.api.auth import Gate, KeyFileBroken, KeysRequired, Scope, add_key, new_key, refuse_open_bind
from services.api.front import Application, Front
from services.api.problems import ProblemError
from services.api.routes import Call, Reply, Route
from services.api.schemas import Ready
from services.collector import build_collector
from services.config import Settings
from services.metrics import HttpMetrics
from services.recommender import build_recommender
from services.settings_serving import ServingSettings
from streaming.config import KafkaSettings
from streaming.namespace import Namespace

NAMESPACE = Namespace("fronttest")
OTHER = Namespace("othertenant")

# None: open to everybody. "any": any valid key. The routes of BentoML's own are listed too.
RECOMMENDER: dict[tuple[str, str], Scope | str | None] = {
    ("POST", "/v1/recommend"): Scope.RECOMMEND,
    ("POST", "/v1/session/recommend"): Scope.RECOMMEND,
    ("POST", "/v1/recommend/batch"): Scope.RECOMMEND,
    ("POST", "/v1/rank"): Scope.RECOMMEND,
    ("POST", "/v1/popular"): Scope.RECOMMEND,
    ("POST", "/v1/trending"): Scope.RECOMMEND,
    ("GET", "/v1/surfaces"): Scope.RECOMMEND,
    ("GET", "/v1/models"): Scope.RECOMMEND,
    ("POST", "/v1/similar"): Scope.RECOMMEND,
    ("GET", "/v1/explain/{request_id}"): Scope.READ_USER,
    ("POST", "/v1/evaluations"): Scope.ADMIN,
    ("POST", "/v1/evaluations/{evaluation_id}/recommend"): Scope.ADMIN,
    ("DELETE", "/v1/evaluations/{evaluation_id}"): Scope.ADMIN,
}
COLLECTOR: dict[tuple[str, str], Scope | str | None] = {
    ("POST", "/v1/events"): Scope.WRITE_PUBLIC,
    ("POST", "/v1/items"): Scope.WRITE,
    ("POST", "/v1/users"): Scope.WRITE,
    ("POST", "/v1/identities"): Scope.WRITE,
    ("DELETE", "/v1/items/{item_id}"): Scope.WRITE,
    ("DELETE", "/v1/users/{user_id}"): Scope.ADMIN,
}
BOTH: dict[tuple[str, str], Scope | str | None] = {
    ("GET", "/readyz"): None,
    ("GET", "/livez"): None,
    ("GET", "/docs.json"): None,
    ("GET", "/"): None,
    ("GET", "/metrics"): "any",
}


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """Stands for BentoML's app."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"behind"})


def front_of(application: Application) -> Front:
    front = Front(behind)
    front.open(application)
    return front


def call(front: Any, method: str, path: str, host: str = "127.0.0.1", **request: Any) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(front, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


def applications(tmp_path: Path, keys: Path | None) -> dict[str, Application]:
    """Both applications, wired and not started."""
    serving = ServingSettings(api_keys_file=keys)
    settings = Settings(
        namespace=NAMESPACE,
        home=tmp_path,
        kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1", erasure_key="k" * 40),
        store=StoreSettings(redis_url="redis://127.0.0.1:1/0"),
        serving=serving,
    )
    return {
        "recommender": build_recommender(settings, CollectorRegistry()),
        "collector": build_collector(settings, CollectorRegistry()),
    }


def write_keys(file: Path, holders: dict[str, tuple[list[Scope], Namespace]]) -> dict[str, str]:
    file.unlink(missing_ok=True)
    keys = {}
    for name, (scopes, namespace) in holders.items():
        keys[name], entry = new_key(name, scopes, namespace)
        add_key(file, entry)
    return keys


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_every_route_asks_for_its_scope(tmp_path: Path, keys_file: Path) -> None:
    holders = {scope.value: ([scope], NAMESPACE) for scope in Scope} | {"other tenant": ([Scope.ADMIN], OTHER)}
    keys = write_keys(keys_file, holders)
    tables = {"recommender": RECOMMENDER | BOTH, "collector": COLLECTOR | BOTH}
    for name, application in applications(tmp_path, keys_file).items():
        front = front_of(application)
        listed = {(route.method, route.path) for route in application.routes()}
        assert listed == {route for route in tables[name] if route[1] not in ("/livez", "/", "/metrics", "/docs.json")}
        for (method, path), scope in tables[name].items():
            url = path.replace("{item_id}", "i1").replace("{evaluation_id}", "e1").replace("{request_id}", "0" * 32)
            statuses = {
                holder: call(front, method, url, headers={"authorization": f"Bearer {key}"}).status_code
                for holder, key in (keys | {"wrong": "fw_wrong"}).items()
            }
            statuses["nobody"] = call(front, method, url).status_code
            statuses["basic"] = call(front, method, url, headers={"authorization": "Basic dTpw"}).status_code
            for holder, status in statuses.items():
                if scope is None:
                    allowed, refusal = True, 0
                elif holder in ("wrong", "nobody", "basic", "other tenant"):
                    allowed, refusal = False, 401
                else:
                    enough = {scope, Scope.ADMIN} | ({Scope.WRITE} if scope is Scope.WRITE_PUBLIC else set())
                    allowed, refusal = scope == "any" or holder in enough, 403
                seen = (name, method, path, holder, status)
                assert (status not in (401, 403)) == allowed, seen
                assert allowed or status == refusal, seen


def test_a_refusal_is_a_problem_and_says_what_to_send(tmp_path: Path, keys_file: Path) -> None:
    keys = write_keys(keys_file, {"reader": ([Scope.RECOMMEND], NAMESPACE)})
    front = front_of(applications(tmp_path, keys_file)["collector"])
    missing = call(front, "POST", "/v1/events")
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == "Bearer"
    lacking = call(front, "POST", "/v1/events", headers={"authorization": f"Bearer {keys['reader']}"})
    assert "'write-public'" in lacking.json()["detail"]
    for answer in (missing, lacking):
        assert answer.headers["content-type"] == "application/problem+json"


def test_keys_change_without_a_restart_and_a_broken_file_leaves_the_old_ones(keys_file: Path) -> None:
    now = [100.0]

    def admitted(gate: Gate, key: str) -> bool:
        now[0] += 2
        try:
            gate.admit(f"Bearer {key}", Scope.WRITE, "127.0.0.1")
        except Exception:  # noqa: BLE001 - whatever the refusal is
            return False
        return True

    first = write_keys(keys_file, {"a": ([Scope.WRITE], NAMESPACE), "b": ([Scope.WRITE], NAMESPACE)})
    gate = Gate(keys_file, NAMESPACE, lambda: now[0])
    assert admitted(gate, first["a"])
    assert admitted(gate, first["b"])
    second = write_keys(keys_file, {"a": ([Scope.WRITE], NAMESPACE)})
    assert admitted(gate, second["a"])
    assert not admitted(gate, first["a"])
    keys_file.write_text("{ no json")
    assert admitted(gate, second["a"])
    with pytest.raises(KeyFileBroken):
        Gate(keys_file, NAMESPACE, lambda: now[0])


def test_a_key_that_asks_too_often_is_told_when_to_come_again_and_others_are_not(keys_file: Path) -> None:
    now = [100.0]
    (fast, entry), (slow, slow_entry) = (
        new_key("fast", [Scope.WRITE], NAMESPACE),
        new_key("slow", [Scope.WRITE], NAMESPACE, per_second=3),
    )
    add_key(keys_file, entry)
    add_key(keys_file, slow_entry)
    assert [key.get("per_second") for key in json.loads(keys_file.read_text())["keys"]] == [None, 3]
    gate = Gate(keys_file, NAMESPACE, lambda: now[0])

    def refused(key: str) -> ProblemError | None:
        try:
            gate.admit(f"Bearer {key}", Scope.WRITE, "127.0.0.1")
        except ProblemError as error:
            return error
        return None

    assert [refused(slow) for _ in range(3)] == [None] * 3
    problem = refused(slow)
    assert problem is not None
    assert (problem.problem.status, problem.headers) == (429, {"retry-after": "1"})
    assert "3 times a second" in problem.problem.detail
    assert refused(fast) is None
    now[0] += 0.34
    assert refused(slow) is None
    assert refused(slow) is not None
    assert [refused(fast) for _ in range(100)] == [None] * 100


def test_the_key_file_holds_no_key(keys_file: Path) -> None:
    [key] = write_keys(keys_file, {"a": ([Scope.WRITE], NAMESPACE)}).values()
    assert key not in keys_file.read_text()
    assert len(key) > 40
    assert keys_file.stat().st_mode & 0o077 == 0


def test_without_keys_only_loopback_is_answered(tmp_path: Path) -> None:
    front = front_of(applications(tmp_path, None)["collector"])
    body: dict[str, Any] = {"content": b"{", "headers": {"content-type": "application/json"}}
    for host, status in (("127.0.0.1", 400), ("[::1]", 400), ("10.0.0.7", 403), ("shop.example", 403)):
        assert call(front, "POST", "/v1/events", host, **body).status_code == status
    assert call(front, "GET", "/metrics", "10.0.0.7").status_code == 403


def test_web_pages_of_the_listed_origins_and_no_others_may_send_events_and_nothing_else(
    tmp_path: Path, keys_file: Path
) -> None:
    [key] = write_keys(keys_file, {"page": ([Scope.WRITE_PUBLIC], NAMESPACE)}).values()
    application = applications(tmp_path, keys_file)["collector"]
    application.serving = application.serving.model_copy(update={"cors_origins": ("https://shop.example",)})
    front = front_of(application)

    def preflight(path: str, origin: str, method: str = "POST") -> httpx.Response:
        asked = {"access-control-request-method": method, "access-control-request-headers": "authorization"}
        return call(front, "OPTIONS", path, headers={"origin": origin} | asked)

    allowed = preflight("/v1/events", "https://shop.example")
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    for refused in (
        preflight("/v1/events", "https://shop.example.evil"),
        preflight("/v1/events", "https://shop.example", "DELETE"),
        preflight("/v1/items", "https://shop.example"),
        preflight("/v1/users", "https://shop.example"),
    ):
        assert refused.status_code in (400, 405)
    assert "access-control-allow-origin" not in preflight("/v1/items", "https://shop.example").headers

    def post(path: str, origin: str) -> httpx.Response:
        sent = {"origin": origin, "authorization": f"Bearer {key}", "content-type": "application/json"}
        return call(front, "POST", path, content=b"{}", headers=sent)

    answer = post("/v1/events", "https://shop.example")
    assert answer.status_code == 422  # past the key, at the body
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["content-type"] == "application/problem+json"
    assert "access-control-allow-origin" not in post("/v1/events", "https://evil.example").headers
    assert post("/v1/items", "https://shop.example").status_code == 403


@pytest.mark.parametrize("origin", ["*", "shop.example", "https://shop.example/", "ftp://shop.example"])
def test_an_origin_that_is_none_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match="cors_origins"):
        ServingSettings(cors_origins=(origin,))


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.7", "::", "shop.example"])  # noqa: S104
def test_an_external_address_needs_keys(host: str, keys_file: Path) -> None:
    with pytest.raises(KeysRequired, match="FLYWHEEL_SERVING__API_KEYS_FILE"):
        refuse_open_bind(ServingSettings(host=host))
    refuse_open_bind(ServingSettings(host=host, api_keys_file=keys_file))
    for loopback in ("127.0.0.1", "127.8.8.8", "::1", "localhost"):
        refuse_open_bind(ServingSettings(host=loopback))


class Slow:
    """An application with routes that wait, break and count."""

    title = "Slow"

    def __init__(self, **serving: Any) -> None:
        self.serving = ServingSettings(**serving)
        self.gate = Gate(None, NAMESPACE, time.monotonic)
        self.registry = CollectorRegistry()
        self.http_metrics = HttpMetrics(self.registry)
        self.cancelled = threading.Event()

    def routes(self) -> Sequence[Route]:
        def route(path: str, handle: Callable[[Call], Any]) -> Route:
            return Route("GET", path, path, handle, {200: Ready}, Scope.RECOMMEND)

        return [route("/slow", self._slow), route("/broken", self._broken)]

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def refresh_metrics(self) -> None: ...

    async def _slow(self, _: Call) -> Reply:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        raise AssertionError

    async def _broken(self, _: Call) -> Reply:
        raise ZeroDivisionError


def test_a_request_past_its_deadline_is_cancelled_and_answered_with_504() -> None:
    application = Slow(request_deadline_ms=50)
    answer = call(front_of(application), "GET", "/slow")
    assert answer.status_code == 504
    assert answer.headers["content-type"] == "application/problem+json"
    assert application.cancelled.is_set()


def test_more_requests_than_allowed_at_once_are_answered_with_429() -> None:
    front = front_of(Slow(max_in_flight=2, request_deadline_ms=300))

    async def crowd() -> list[httpx.Response]:
        transport = httpx.ASGITransport(front)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await asyncio.gather(*(client.get("/slow") for _ in range(5)))

    answers = asyncio.run(crowd())
    assert sorted(answer.status_code for answer in answers) == [429, 429, 429, 504, 504]
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)
    assert asyncio.run(crowd())  # the places are free again


def test_a_failure_of_ours_is_a_problem_without_details() -> None:
    application = Slow()
    answer = call(front_of(application), "GET", "/broken")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:flywheel:problem:internal-error"
    assert "ZeroDivision" not in answer.text
    labels = {"route": "/broken", "method": "GET", "status": "500"}
    assert application.registry.get_sample_value("flywheel_request_seconds_count", labels) == 1


def test_the_document_lists_every_route_with_bodies_and_answers(tmp_path: Path) -> None:
    for name, application in applications(tmp_path, None).items():
        document = call(front_of(application), "GET", "/docs.json").json()
        assert document["openapi"].startswith("3.")
        for route in application.routes():
            operation = document["paths"][route.path][route.method.lower()]
            assert set(map(str, route.answers)) <= set(operation["responses"]), (name, route.path)
            assert ("requestBody" in operation) == bool(route.bodies)
        text = json.dumps(document)
        references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
        assert references == set(document["components"]["schemas"])
        properties = document["components"]["schemas"]
        assert all(
            one.get("additionalProperties") is False for key, one in properties.items() if key.endswith("Request")
        )
