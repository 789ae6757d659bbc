"""What the lander's metrics say of its batches."""

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from features.batch import Landing
from services.landing_metrics import LandingMetrics


def test_batches_add_up_by_topic_and_what_became_of_their_records() -> None:
    registry = CollectorRegistry()
    metrics = LandingMetrics(registry)
    first = Landing("shop.items", 0, 0, 10, 10, 6, 1, 2, 1, 0, 0, datetime(2026, 1, 1, tzinfo=UTC))
    metrics.landed([first, Landing("shop.users", 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, first.landed_at)])
    metrics.landed([Landing("shop.items", 0, 10, 14, 4, 0, 3, 1, 0, 0, 1, datetime(2026, 1, 2, tzinfo=UTC))])

    def count(topic: str, outcome: str) -> float | None:
        return registry.get_sample_value("flywheel_landed_records_total", {"topic": topic, "outcome": outcome})

    assert [count("shop.items", outcome) for outcome in ("inserted", "duplicate", "dead", "parked")] == [6, 4, 3, 1]
    assert count("shop.users", "inserted") == 1
    committed = registry.get_sample_value("flywheel_landing_committed_seconds")
    assert committed == datetime(2026, 1, 2, tzinfo=UTC).timestamp()
