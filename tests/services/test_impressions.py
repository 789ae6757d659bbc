"""Impressions: sent in the background, kept within a bound while Kafka is away, and always accounted for."""

from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry
from topic_records import records
from waiting import wait_until

from services.metrics import ImpressionMetrics
from services.recommend.impressions import LINGER_MS, ImpressionLog
from streaming.codec import decode
from streaming.config import KafkaSettings
from streaming.events import Impression
from streaming.namespace import Namespace
from streaming.outbox import Delivery, Outbox
from streaming.records import records_of
from streaming.spool import SpoolPlace
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1")
NOWHERE_TOPICS = Topics(Namespace("nowhere"))


def impression(number: int) -> Impression:
    return Impression(
        event_id=f"request-{number}",
        happened_at=number,
        received_at=number,
        producer="test",
        surface="home",
        variant="champion",
        slate=[],
        seed=number,
        user_id="u",
    )


@dataclass
class Log:
    """An impression log and what its metrics say."""

    log: ImpressionLog
    registry: CollectorRegistry

    def count(self, status: str) -> float:
        return self.registry.get_sample_value("flywheel_impressions_total", {"status": status}) or 0.0


def log_to(kafka: KafkaSettings, topics: Topics, capacity: int, spool: SpoolPlace | None) -> Log:
    registry = CollectorRegistry()
    metrics = ImpressionMetrics(registry)
    outbox = Outbox(kafka, topics, Delivery(10_000, LINGER_MS, spool), metrics.spool.drained)
    return Log(ImpressionLog(outbox, capacity, metrics), registry)


def place(folder: Path, capacity: int) -> SpoolPlace:
    return SpoolPlace(folder, "impressions", capacity, lambda: 0)


def test_without_a_broker_and_a_spool_the_queue_is_bounded_and_what_does_not_fit_is_counted_as_lost() -> None:
    one = log_to(NOWHERE, NOWHERE_TOPICS, 10, None)
    one.log.start()
    for number in range(25):
        one.log.offer(impression(number))
    assert one.log.waiting == 10
    assert (one.count("lost"), one.count("sent"), one.count("spooled")) == (15, 0, 0)
    one.log.stop(1)
    assert (one.count("lost"), one.count("sent"), one.count("spooled")) == (25, 0, 0)


def test_what_was_offered_before_the_end_is_sent(broker: KafkaSettings, namespace: Namespace, tmp_path: Path) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    one = log_to(broker, topics, 100, place(tmp_path, 10**9))
    one.log.start()
    wait_until(lambda: one.log.direct)
    for number in range(50):
        one.log.offer(impression(number))
    one.log.stop(20)
    assert one.log.waiting == 0
    assert (one.count("lost"), one.count("sent"), one.count("spooled")) == (0, 50, 0)


def test_without_a_broker_what_was_offered_before_the_end_is_spooled_and_sent_when_one_is_there(
    broker: KafkaSettings, namespace: Namespace, tmp_path: Path
) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    away = log_to(NOWHERE, topics, 1_000, place(tmp_path, 10**9))
    away.log.start()
    for number in range(200):
        away.log.offer(impression(number))
    away.log.stop(1)
    assert (away.count("lost"), away.count("sent"), away.count("spooled")) == (0, 0, 200)
    back = log_to(broker, topics, 1_000, place(tmp_path, 10**9))
    back.log.start()
    wait_until(lambda: back.log.direct)
    back.log.stop(10)
    assert back.registry.get_sample_value("flywheel_spool_drained_total", {"spool": "impressions"}) == 200
    found = [decode(record.value).event_id for record in records(broker, topics.impressions)]
    assert found == [f"request-{number}" for number in range(200)]


def test_what_does_not_fit_in_the_spool_is_counted_as_lost(tmp_path: Path) -> None:
    size = sum(record.size for record in records_of(NOWHERE_TOPICS, impression(10)))
    one = log_to(NOWHERE, NOWHERE_TOPICS, 1_000, place(tmp_path, 7 * size))
    one.log.start()
    for number in range(10, 30):
        one.log.offer(impression(number))
    wait_until(lambda: one.count("lost") + one.count("spooled") == 20)
    assert (one.count("lost"), one.count("spooled")) == (13, 7)
    assert one.log.fill.records == 7
    one.log.stop(0)
