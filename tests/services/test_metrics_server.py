"""What the processes that are no HTTP services answer at their metrics port."""

import http.client

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from services.consumer_metrics import ConsumerMetrics
from services.metrics_server import metrics_server
from streaming.consumer import ConsumerCounts
from streaming.embedded.ports import PortBusy


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_metrics_tell_the_lag_and_the_age_of_the_last_record() -> None:
    counts = ConsumerCounts(handled=7, undecodable=2, retries=1, behind={("t", 0): 3, ("t", 1): 0}, appended_at=60_000)
    registry = CollectorRegistry()
    metrics = ConsumerMetrics(counts, lambda: 62_500, lambda: 0.0)
    registry.register(metrics)
    with metrics_server("127.0.0.1", 0, registry, metrics.alive) as port:
        assert port is not None
        status, text = get(port, "/metrics")
        assert status == 200
        values = {
            (sample.name, *sorted(sample.labels.values(), reverse=True)): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }
        assert values == {
            ("flywheel_consumer_records_total",): 7,
            ("flywheel_consumer_undecodable_total",): 2,
            ("flywheel_consumer_retries_total",): 1,
            ("flywheel_consumer_lag_records", "t", "0"): 3,
            ("flywheel_consumer_lag_records", "t", "1"): 0,
            ("flywheel_consumer_age_seconds",): 2.5,
        }
        assert get(port, "/anything")[0] == 404


def test_a_consumer_that_has_not_polled_for_five_minutes_is_not_alive() -> None:
    counts, now = ConsumerCounts(), [1_000.0]
    metrics = ConsumerMetrics(counts, lambda: 0, lambda: now[0])
    with metrics_server("127.0.0.1", 0, CollectorRegistry(), metrics.alive) as port:
        assert port is not None
        assert get(port, "/livez")[0] == 200
        counts.polled_at = 1_000.0
        now[0] = 1_299.0
        assert get(port, "/livez")[0] == 200
        now[0] = 1_300.0
        assert get(port, "/livez")[0] == 503


def test_ipv6_is_served_and_a_port_that_is_taken_is_a_sentence() -> None:
    with metrics_server("::1", 0, CollectorRegistry(), lambda: True) as port:
        connection = http.client.HTTPConnection("::1", port, timeout=5)
        connection.request("GET", "/livez")
        assert connection.getresponse().status == 200
        connection.close()
        taken = metrics_server("::1", port, CollectorRegistry(), lambda: True)
        with pytest.raises(PortBusy, match="cannot listen on ::1"), taken:
            pass


def test_without_a_port_nothing_listens() -> None:
    with metrics_server("127.0.0.1", None, CollectorRegistry(), lambda: True) as port:
        assert port is None
