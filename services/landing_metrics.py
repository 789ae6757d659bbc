"""Metrics of a running lander: what became of the records, and what the audit found."""

from collections import Counter as Counted
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge

from features.accounting import Accounting
from features.batch import OUTCOMES, Landing


class LandingMetrics:
    """What has landed since the start, and the last audit."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._records = Counter(
            "flywheel_landing_records", "Records by what landing made of them.", ("topic", "outcome"), registry=registry
        )
        self._landed_at = Gauge(
            "flywheel_landing_unixtime", "When the last batch was committed, 0 before the first.", registry=registry
        )
        self._differences = Gauge(
            "flywheel_audit_differences",
            "Differences between Kafka and the lake that the last audit found; anything but 0 is an alarm.",
            ("topic", "partition"),
            registry=registry,
        )
        self._places: set[tuple[str, str]] = set()
        self._audited_at = Gauge(
            "flywheel_audit_unixtime", "When the last audit ended, 0 before the first.", registry=registry
        )
        self._failed = Counter("flywheel_audits_failed", "Audits that could not end.", registry=registry)

    def landed(self, landings: Iterable[Landing]) -> None:
        """Count a committed batch."""
        for landing in landings:
            for outcome in OUTCOMES:
                self._records.labels(landing.topic, outcome).inc(getattr(landing, outcome))
            self._landed_at.set(landing.landed_at.timestamp())

    def audited(self, accounting: Accounting, at_s: float) -> None:
        """Keep what an audit that ended at `at_s` (Unix) found."""
        wrong = Counted({(part.topic, str(part.partition)): len(part.problems) for part in accounting.partitions})
        wrong.update((one.topic, str(one.partition)) for one in accounting.differences)
        self._places |= wrong.keys()
        for place in self._places:  # also those that were wrong before and have nothing else to count
            self._differences.labels(*place).set(wrong[place])
        self._audited_at.set(at_s)

    def failed(self) -> None:
        """Count an audit that could not end."""
        self._failed.inc()
