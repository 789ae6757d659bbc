"""Metrics of a Kafka consumer, read from its counts when Prometheus asks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming.consumer import ConsumerCounts

_STUCK_S = 300.0


@dataclass(frozen=True, eq=False)  # a registry wants its collectors hashable
class ConsumerMetrics(Collector):
    """What a consumer has done and how far it is behind. `clock` gives ms UTC, `monotonic` seconds."""

    counts: ConsumerCounts
    clock: Callable[[], int]
    monotonic: Callable[[], float]

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        counts = self.counts
        yield CounterMetricFamily("flywheel_consumer_records", "Records handled.", value=counts.handled)
        yield CounterMetricFamily(
            "flywheel_consumer_undecodable",
            "Records that did not decode: skipped here, kept by the lander in the dead-letter topic.",
            value=counts.undecodable,
        )
        yield CounterMetricFamily(
            "flywheel_consumer_retries", "Writes that the online store did not take at first.", value=counts.retries
        )
        lag = GaugeMetricFamily(
            "flywheel_consumer_lag_records", "Records not handled yet.", labels=("topic", "partition")
        )
        for (topic, partition), behind in counts.behind.items():
            lag.add_metric((topic, str(partition)), behind)
        yield lag
        age = GaugeMetricFamily("flywheel_consumer_age_seconds", "Time since the newest handled record's append.")
        if counts.appended_at:
            age.add_metric((), (self.clock() - counts.appended_at) / 1000)
        yield age

    def alive(self) -> bool:
        """Whether the log was asked, or the store tried, in the last five minutes."""
        return self.counts.polled_at == 0 or self.monotonic() - self.counts.polled_at < _STUCK_S
