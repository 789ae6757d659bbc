"""Impressions: sent in the background, kept within a bound while Kafka is away, and always accounted for."""

from prometheus_client import CollectorRegistry

from services.metrics import ImpressionMetrics
from services.recommend.impressions import ImpressionLog
from streaming.config import KafkaSettings
from streaming.events import Impression
from streaming.namespace import Namespace
from streaming.topics import Topics, ensure_topics


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


def test_without_a_broker_the_queue_is_bounded_and_what_does_not_fit_is_counted_as_lost() -> None:
    registry = CollectorRegistry()
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    log = ImpressionLog(nowhere, Topics(Namespace("nowhere")), 10, ImpressionMetrics(registry))
    log.start()
    for number in range(25):
        log.offer(impression(number))
    assert log.waiting == 10
    assert registry.get_sample_value("flywheel_impressions_total", {"status": "lost"}) == 15
    assert registry.get_sample_value("flywheel_impressions_total", {"status": "sent"}) is None
    log.stop(20)


def test_what_was_offered_before_the_end_is_sent(broker: KafkaSettings, namespace: Namespace) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    registry = CollectorRegistry()
    log = ImpressionLog(broker, topics, 100, ImpressionMetrics(registry))
    for number in range(50):
        log.offer(impression(number))
    log.start()
    log.stop(20)
    assert log.waiting == 0
    assert registry.get_sample_value("flywheel_impressions_total", {"status": "sent"}) == 50
    assert registry.get_sample_value("flywheel_impressions_total", {"status": "lost"}) is None
