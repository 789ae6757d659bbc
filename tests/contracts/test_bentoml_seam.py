"""What Flywheel relies on in BentoML beyond its documented interface, checked on real server processes."""

import inspect
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from _bentoml_sdk import Service
from waiting import wait_until

from features.config import StoreSettings, store_url
from streaming.config import KafkaSettings
from streaming.embedded.ports import choose_port
from streaming.namespace import parse_namespace
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

NAMESPACE = parse_namespace("seamtest")


@dataclass(frozen=True)
class Server:
    """A server process and a client for it."""

    client: httpx.Client
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def serving(name: str, folder: Path, variables: dict[str, str]) -> Iterator[Server]:
    """Run `flywheel serve NAME` until the block ends."""
    port = choose_port(None, "a test")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLYWHEEL_", "BENTOML_"))}
    environ |= {"FLYWHEEL_HOME": str(folder), f"FLYWHEEL_SERVING__{name.upper()}_PORT": str(port), **variables}
    log = folder / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli", "serve", name], env=environ, stdout=output, stderr=output
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            server = Server(client, process, log)
            wait_until(lambda: process.poll() is not None or is_ready(server), 60, log.read_text)
            assert process.poll() is None, log.read_text()
            yield server
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)


def is_ready(server: Server) -> bool:
    try:
        return server.client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="module")
def variables(broker: KafkaSettings, valkey: StoreSettings) -> dict[str, str]:
    ensure_topics(broker, Topics(NAMESPACE))
    return {
        "FLYWHEEL_NAMESPACE": NAMESPACE,
        "FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS": str(broker.bootstrap_servers),
        "FLYWHEEL_KAFKA__ERASURE_KEY": "k" * 40,
        "FLYWHEEL_STORE__REDIS_URL": store_url(valkey),
    }


@pytest.fixture(scope="module")
def server(variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving("recommender", tmp_path_factory.mktemp("seam"), variables) as one:
        yield one


def ask(client: httpx.Client) -> httpx.Response:
    return client.post("/v1/recommend", json={"user_id": "u1"})


def series(client: httpx.Client, name: str) -> list[str]:
    return re.findall(rf"^{name}(?:\{{.*\}})? .*$", client.get("/metrics").text, re.MULTILINE)


def test_the_overridden_methods_are_still_there() -> None:
    assert list(inspect.signature(Service.to_asgi).parameters) == ["self", "is_main"]
    assert list(inspect.signature(Service.__call__).parameters) == ["self"]


def test_our_routes_pass_by_bentoml_s_middlewares(server: Server) -> None:
    answer = ask(server.client)
    assert answer.status_code == 200
    assert answer.json()["slate"] == []  # the catalogue is empty
    assert not [name for name in answer.headers if "bentoml" in name]
    assert not [line for line in series(server.client, "bentoml_service_request_total") if "/v1/" in line]


def test_bentoml_answers_probes_metrics_and_the_index_page(server: Server) -> None:
    assert server.client.get("/livez").status_code == 200
    index = server.client.get("/")
    assert index.status_code == 200
    assert "docs.json" in index.text or "swagger" in index.text.lower()
    ask(server.client)
    [count] = [line for line in series(server.client, "flywheel_request_seconds_count") if "/v1/recommend" in line]
    assert float(count.rpartition(" ")[2]) >= 1


def test_unknown_paths_make_no_series(server: Server) -> None:
    for number in range(5):
        assert server.client.get(f"/v1/nothing/{number}").status_code == 404
        assert server.client.get(f"/schema.json?{number}").status_code == 404
    text = server.client.get("/metrics").text
    assert "nothing" not in text
    assert 'route="unmatched"' in text


def test_the_process_maps_neither_torch_nor_a_jvm(server: Server) -> None:
    ask(server.client)
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "onnxruntime" in maps
    for heavy in ("libtorch", "libjvm", "fbgemm"):
        assert heavy not in maps


_BROKEN = """
from services.collect.intake import Clerk

def identity(self, body):
    raise ZeroDivisionError("broken for a test")

Clerk.identity = identity
"""


def test_the_collector_is_served_the_same_way_and_its_log_has_what_went_wrong(
    variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_BROKEN)
    with serving("collector", tmp_path, {**variables, "PYTHONPATH": str(tmp_path)}) as server:
        answer = server.client.post("/v1/events", json={"user_id": "u1", "item_id": "i1", "kind": "view"})
        assert answer.status_code == 200
        assert server.client.get("/livez").status_code == 200
        assert [line for line in series(server.client, "flywheel_events_total") if 'status="accepted"' in line]

        broken = server.client.post("/v1/identities", json={"session_id": "s1", "user_id": "u1"})
        assert broken.status_code == 500
        assert "ZeroDivisionError" not in broken.text
        logged = wait_until(lambda: "ZeroDivisionError: broken for a test" in server.log.read_text() and server.log)
        assert "Traceback (most recent call last)" in logged.read_text()
        assert [line for line in series(server.client, "flywheel_request_seconds_count") if 'status="500"' in line]


def test_several_workers_share_the_port_and_the_metrics(variables: dict[str, str], tmp_path: Path) -> None:
    with serving("recommender", tmp_path, {**variables, "FLYWHEEL_SERVING__RECOMMENDER_WORKERS": "2"}) as server:
        for _ in range(20):
            with httpx.Client(base_url=server.client.base_url) as client:
                answer = ask(client)
                assert answer.status_code == 200, answer.text
                assert client.post("/v1/evaluations").status_code == 409
        [count] = [line for line in series(server.client, "flywheel_request_seconds_count") if "/v1/recommend" in line]
        assert float(count.rpartition(" ")[2]) == 20


def test_several_collectors_share_the_port_and_keep_a_spool_each(variables: dict[str, str], tmp_path: Path) -> None:
    with serving("collector", tmp_path, {**variables, "FLYWHEEL_SERVING__COLLECTOR_WORKERS": "2"}) as server:
        wait_until(lambda: len([*tmp_path.rglob("*.spool")]) == 2)
        # The least over both workers, while one connection asks one of them: events go to Kafka at once from now on.
        wait_until(lambda: series(server.client, "flywheel_producer_connected") == ["flywheel_producer_connected 1.0"])
        for number in range(20):
            with httpx.Client(base_url=server.client.base_url) as client:
                body = {"user_id": "u1", "item_id": f"i{number}", "kind": "view"}
                answer = client.post("/v1/events", json=body)
                assert answer.status_code == 200, answer.text
        counts = [line for line in series(server.client, "flywheel_events_total") if 'status="accepted"' in line]
        assert sum(float(count.rpartition(" ")[2]) for count in counts) == 20


def test_connections_that_come_at_once_are_spread_over_the_workers(variables: dict[str, str], tmp_path: Path) -> None:
    with serving("collector", tmp_path, {**variables, "FLYWHEEL_SERVING__COLLECTOR_WORKERS": "2"}) as server:
        address = server.client.base_url.host, server.client.base_url.port
        workers = psutil.Process(server.process.pid).children()
        assert len(workers) == 2
        with ExitStack() as held:
            for _ in range(64):
                held.enter_context(socket.create_connection(address))
            wait_until(lambda: sum(_connections(worker) for worker in workers) >= 64)
            # Each goes to either one by a hash: all to one has a chance of 2 in 2 ** 64.
            assert all(_connections(worker) for worker in workers)

        workers[0].kill()
        workers[0].wait(10)
        wait_until(lambda: len(psutil.Process(server.process.pid).children()) == 2)  # another one in its place


def _connections(process: psutil.Process) -> int:
    return sum(one.status == psutil.CONN_ESTABLISHED for one in process.net_connections(kind="tcp4"))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"FLYWHEEL_SERVING__HOST": "0.0.0.0"}, "FLYWHEEL_SERVING__API_KEYS_FILE"),  # noqa: S104
        ({"FLYWHEEL_SERVING__API_KEYS_FILE": "/nowhere/keys.json"}, "/nowhere/keys.json"),
        ({"FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS": None}, "FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS"),
        ({"FLYWHEEL_KAFKA__ERASURE_KEY": None}, "FLYWHEEL_KAFKA__ERASURE_KEY"),
        ({"FLYWHEEL_STORE__REDIS_URL": None}, "FLYWHEEL_STORE__REDIS_URL"),
    ],
)
def test_what_would_stop_the_worker_is_a_sentence_before_it_starts(
    variables: dict[str, str], tmp_path: Path, changes: dict[str, str | None], named: str
) -> None:
    environ = {**os.environ, **variables, "FLYWHEEL_HOME": str(tmp_path)} | changes
    refused = subprocess.run(
        [sys.executable, "-m", "services.cli", "serve", "recommender"],
        env={name: value for name, value in environ.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode in (1, 2)
    assert named in refused.stderr
    assert "Traceback" not in refused.stderr
