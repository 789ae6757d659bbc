"""Metrics of the lander, kept by what it tells of its batches."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge

if TYPE_CHECKING:
    from features.batch import Landing

_OUTCOMES = ("inserted", "duplicate", "dead", "parked", "tombstones")


class LandingMetrics:
    """What became of the records that landed, and when the newest batch was committed."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._records = Counter(
            "flywheel_landed_records",
            "Records by topic and what became of them: inserted, duplicate, dead, parked or tombstones.",
            ("topic", "outcome"),
            registry=registry,
        )
        self._committed = Gauge(
            "flywheel_landing_committed_seconds", "When the newest batch was committed, s UTC.", registry=registry
        )

    def landed(self, landings: "list[Landing]") -> None:
        """Count a committed batch."""
        for landing in landings:
            for outcome in _OUTCOMES:
                self._records.labels(landing.topic, outcome).inc(getattr(landing, outcome))
            self._committed.set(landing.landed_at.timestamp())
