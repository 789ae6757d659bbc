"""Kafka hangs, dies and comes back under both services, and they die meanwhile."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from environ import without_settings
from prometheus_client import CollectorRegistry
from topic_records import records
from waiting import wait_until

from features.config import StoreSettings
from services.collector import build_collector
from services.config import Settings
from services.environment import settings_environ
from services.recommender import build_recommender
from streaming.codec import decode
from streaming.config import KafkaSettings
from streaming.embedded.broker import Broker, start_broker
from streaming.embedded.ports import choose_port
from streaming.namespace import Namespace
from streaming.topic_creation import ensure_topics

Serve = Callable[[Any], AbstractContextManager[httpx.Client]]


class Kafka:
    """A broker of these tests' own, at one address."""

    def __init__(self, home: Path, cache: Path) -> None:
        self.home, self.cache = home, cache
        self.settings = KafkaSettings(port=choose_port(None, "a test"), partitions=1)
        self.start()

    def start(self) -> None:
        self.broker: Broker = start_broker(self.home, self.settings, self.cache, os.environ)

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.broker.process.pid, number)


@pytest.fixture(scope="module")
def kafka(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    kafka = Kafka(tmp_path_factory.mktemp("kafka"), cache)
    yield kafka
    kafka.signal(signal.SIGCONT)
    kafka.broker.stop()


@pytest.fixture
def settings(kafka: Kafka, valkey: StoreSettings, namespace: Namespace, tmp_path: Path) -> Settings:
    settings = Settings(namespace=namespace, home=tmp_path, kafka=kafka.broker.settings, store=valkey)
    ensure_topics(settings.kafka, settings.topics)
    quick = settings.serving.model_copy(update={"acknowledge_deadline_ms": 3_000})
    return settings.model_copy(update={"serving": quick})


class Application:
    """What an application sends and sees."""

    def __init__(self, collector: httpx.Client, recommender: httpx.Client) -> None:
        self.collector, self.recommender = collector, recommender
        self.event_ids: list[str] = []
        self.request_ids: list[str] = []

    def ready(self) -> bool:
        return all(
            all(client.get("/readyz").json()["checks"].values()) for client in (self.collector, self.recommender)
        )

    def add_items(self) -> None:
        answer = self.collector.post("/v1/items", json={"items": [{"item_id": f"i{number}"} for number in range(5)]})
        assert answer.status_code == 200, answer.text
        wait_until(lambda: len(self.ask()) == 5)

    def click(self) -> str:
        answer = self.collector.post("/v1/events", json={"user_id": "u1", "item_id": "i1", "kind": "click"})
        assert answer.status_code == 200, answer.text
        [result] = answer.json()["results"]
        self.event_ids.append(result["event_id"])
        return str(result["status"])

    def ask(self) -> list[Any]:
        answer = self.recommender.post("/v1/recommend", json={"user_id": "u1", "n": 5})
        assert answer.status_code == 200, answer.text
        self.request_ids.append(answer.json()["request_id"])
        return list(answer.json()["slate"])


def ids(kafka: KafkaSettings, topic: str) -> list[str]:
    return [decode(record.value).event_id for record in records(kafka, topic)]


def test_while_kafka_hangs_slates_are_answered_and_events_spooled_and_both_follow_when_it_answers_again(
    kafka: Kafka, settings: Settings, serve: Serve
) -> None:
    metrics = CollectorRegistry()

    def impressions(status: str) -> float:
        return metrics.get_sample_value("flywheel_impressions_total", {"status": status}) or 0.0

    with (
        serve(build_collector(settings, CollectorRegistry())) as collector,
        serve(build_recommender(settings, metrics)) as recommender,
    ):
        application = Application(collector, recommender)
        wait_until(application.ready)
        application.add_items()
        assert application.click() == "accepted"
        wait_until(lambda: impressions("sent") == len(application.request_ids))

        kafka.signal(signal.SIGSTOP)
        assert application.click() == "spooled"  # after the deadline
        on_their_way = {application.event_ids[-1]}
        assert application.click() == "spooled"
        assert len(application.ask()) == 5
        asked = {application.request_ids[-1]}
        wait_until(lambda: impressions("spooled") == 1)
        for _ in range(20):
            assert len(application.ask()) == 5
        wait_until(lambda: impressions("spooled") == 21)
        assert collector.get("/readyz").status_code == 200
        assert collector.get("/readyz").json()["checks"]["broker"] is False

        kafka.signal(signal.SIGCONT)
        wait_until(lambda: application.click() == "accepted", 60)
        wait_until(lambda: application.ask() and impressions("sent") > len(application.request_ids) - 30, 60)
        wait_until(
            lambda: (
                metrics.get_sample_value("flywheel_spool_drained_total", {"spool": "impressions"})
                == impressions("spooled")
            )
        )
        wait_until(lambda: impressions("sent") + impressions("spooled") == len(application.request_ids))
        assert impressions("lost") == 0
        assert collector.post("/v1/items", json={"item_id": "later", "categories": ["after"]}).status_code == 200
        wait_until(
            lambda: recommender.post("/v1/recommend", json={"user_id": "u", "categories": ["after"]}).json()["slate"]
        )
    # What was on its way when Kafka stopped may be in it twice, with one id; everything else is once, and in order.
    for topic, sent, twice in (
        (settings.topics.interactions, application.event_ids, on_their_way),
        (settings.topics.impressions, application.request_ids, asked),
    ):
        found = ids(settings.kafka, topic)
        assert [*dict.fromkeys(found)][: len(sent)] == sent
        assert {one for one in found if found.count(one) > 1} <= twice


_SERVICES = """
import sys
sys.path[:0] = sys.argv[1:]
from conftest import served
from prometheus_client import CollectorRegistry
from services.collector import build_collector
from services.config import load_settings
from services.recommender import build_recommender
settings, metrics = load_settings(), CollectorRegistry()
collector, recommender = build_collector(settings, CollectorRegistry()), build_recommender(settings, metrics)
with served(collector) as first, served(recommender) as second:
    print(first.base_url, second.base_url, flush=True)
    for line in sys.stdin:  # asked how many impressions are on the spool's disk
        print(int(metrics.get_sample_value("flywheel_impressions_total", {"status": "spooled"}) or 0), flush=True)
"""


@contextmanager
def services_of_their_own(settings: Settings) -> Iterator[tuple[Application, Callable[[], int]]]:
    """Run both services in another process, which is killed at the end; yields what asks how much is spooled too."""
    environ = without_settings()
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVICES, str(here), str(here.parent)],
        env={**environ, **settings_environ(settings)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def spooled() -> int:
        stdin.write("\n")
        stdin.flush()
        return int(stdout.readline())

    try:
        collector, recommender = stdout.readline().split()
        with httpx.Client(base_url=collector, timeout=30) as one, httpx.Client(base_url=recommender) as other:
            yield Application(one, other), spooled
    finally:
        process.kill()
        process.wait()


def test_services_that_are_killed_while_kafka_is_away_have_lost_nothing_when_both_are_back(
    kafka: Kafka, settings: Settings, serve: Serve
) -> None:
    with services_of_their_own(settings) as (application, spooled):
        wait_until(application.ready)
        application.add_items()
        assert application.click() == "accepted"
        wait_until(lambda: ids(settings.kafka, settings.topics.impressions) == application.request_ids)

        kafka.signal(signal.SIGKILL)
        assert [application.click() for _ in range(10)] == ["spooled"] * 10
        for _ in range(20):
            assert len(application.ask()) == 5
        wait_until(lambda: spooled() == 20)

    kafka.broker.stop()
    kafka.start()
    with (
        serve(build_collector(settings, CollectorRegistry())) as collector,
        serve(build_recommender(settings, CollectorRegistry())) as recommender,
    ):
        after = Application(collector, recommender)
        wait_until(after.ready)
        assert after.click() == "accepted"
        wait_until(lambda: len(after.ask()) == 5)
    found = ids(settings.kafka, settings.topics.interactions)
    assert found == [*application.event_ids, *after.event_ids]
    found = ids(settings.kafka, settings.topics.impressions)
    assert found == [*application.request_ids, *after.request_ids]
