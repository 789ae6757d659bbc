"""Metrics of a running lander: what became of the records, and what the audit found."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from features.accounting import Accounting
from features.batch import Landing

_OUTCOMES = ("inserted", "duplicate", "dead", "parked", "tombstones", "erased")


@dataclass(eq=False)  # a registry wants its collectors hashable
class LandingMetrics(Collector):
    """What has landed since the start, and the last audit."""

    landed_at: float = 0.0
    audited_at: float = 0.0
    audits_failed: int = 0
    _records: Counter[tuple[str, str]] = field(default_factory=Counter)
    _wrong: dict[tuple[str, str], int] = field(default_factory=dict)

    def landed(self, landings: Iterable[Landing]) -> None:
        """Count a committed batch."""
        for landing in landings:
            for outcome in _OUTCOMES:
                self._records[landing.topic, outcome] += getattr(landing, outcome)
            self.landed_at = max(self.landed_at, landing.landed_at.timestamp())

    def audited(self, accounting: Accounting, at_s: float) -> None:
        """Keep what an audit that ended at `at_s` (Unix) found."""
        wrong = {(part.topic, str(part.partition)): len(part.problems) for part in accounting.partitions}
        for one in accounting.differences:
            wrong[one.topic, str(one.partition)] = wrong.get((one.topic, str(one.partition)), 0) + 1
        self._wrong, self.audited_at = wrong, at_s

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        records = CounterMetricFamily(
            "flywheel_landing_records", "Records by what landing made of them.", labels=("topic", "outcome")
        )
        for (topic, outcome), count in self._records.items():
            records.add_metric((topic, outcome), count)
        yield records
        yield GaugeMetricFamily(
            "flywheel_landing_unixtime", "When the last batch was committed, 0 before the first.", value=self.landed_at
        )
        wrong = GaugeMetricFamily(
            "flywheel_audit_differences",
            "Differences between Kafka and the lake that the last audit found; anything but 0 is an alarm.",
            labels=("topic", "partition"),
        )
        for place, count in self._wrong.items():
            wrong.add_metric(place, count)
        yield wrong
        yield GaugeMetricFamily(
            "flywheel_audit_unixtime", "When the last audit ended, 0 before the first.", value=self.audited_at
        )
        yield CounterMetricFamily("flywheel_audits_failed", "Audits that could not end.", value=self.audits_failed)
