"""Prometheus metrics of the services. BentoML's /metrics shows them, for all workers of a service together."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from streaming.spool import Fill

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)

_METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})


def known_method(method: str) -> str:
    """Return a request's method, `other` for one that HTTP does not know: clients choose it."""
    return method if method in _METHODS else "other"


class HttpMetrics:
    """Requests by route; the route is the template, never the path, so unknown paths make no series."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "flywheel_request_seconds",
            "Time from a request's arrival to its answer.",
            ("route", "method", "status"),
            buckets=_LATENCY,
            registry=registry,
        )
        self._answers_of = cache(self._seconds.labels)  # routes, methods and statuses are few

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        self._answers_of(route, known_method(method), str(status)).observe(seconds)


class SpoolMetrics:
    """How full a spool is, for all workers of a service together, and what was drained of it."""

    def __init__(self, registry: CollectorRegistry, spool: str) -> None:
        self._spool = spool
        self._records = Gauge(
            "flywheel_spool_records",
            "Records that wait on disk for Kafka.",
            ("spool",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._bytes = Gauge(
            "flywheel_spool_bytes",
            "Bytes of the records that wait on disk for Kafka.",
            ("spool",),
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._oldest = Gauge(
            "flywheel_spool_oldest_seconds",
            "For how long the oldest record has waited on disk.",
            ("spool",),
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._drained = Counter(
            "flywheel_spool_drained", "Records that came from disk to Kafka.", ("spool",), registry=registry
        )

    def drained(self, count: int) -> None:
        """Count records that Kafka has acknowledged."""
        self._drained.labels(self._spool).inc(count)

    def filled(self, fill: Fill, now_ms: int) -> None:
        """Record how much waits."""
        self._records.labels(self._spool).set(fill.records)
        self._bytes.labels(self._spool).set(fill.bytes)
        self._oldest.labels(self._spool).set(0 if fill.oldest_at is None else (now_ms - fill.oldest_at) / 1000)


class CollectorMetrics:
    """What became of the events that applications sent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.spool = SpoolMetrics(registry, "events")
        self._events = Counter(
            "flywheel_events",
            "Parts of bodies by kind and what became of them: accepted, spooled, duplicate, rejected or not_durable.",
            ("kind", "status"),
            registry=registry,
        )
        self._acknowledge = Histogram(
            "flywheel_acknowledge_seconds",
            "Time from handing events to the producer until all are in Kafka or in the spool.",
            buckets=_LATENCY,
            registry=registry,
        )
        self._connected = Gauge(
            "flywheel_producer_connected",
            "1 while events go to Kafka at once.",
            multiprocess_mode="livemin",
            registry=registry,
        )

    def settled(self, kind: str, status: str, count: int = 1) -> None:
        """Count parts that ended the same way."""
        self._events.labels(kind, status).inc(count)

    def acknowledged(self, seconds: float) -> None:
        """Record how long Kafka, or the spool, took."""
        self._acknowledge.observe(seconds)

    def connected(self, up: bool) -> None:
        """Record whether events go to Kafka at once."""
        self._connected.set(up)


class ImpressionMetrics:
    """What became of the impressions."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.spool = SpoolMetrics(registry, "impressions")
        self._impressions = Counter(
            "flywheel_impressions",
            "Impressions by what became of them: sent, spooled or lost.",
            ("status",),
            registry=registry,
        )
        self._waiting = Gauge(
            "flywheel_impressions_waiting",
            "Impressions that wait for Kafka.",
            multiprocess_mode="livesum",
            registry=registry,
        )

    def sent(self) -> None:
        """Count an impression that Kafka acknowledged."""
        self._impressions.labels("sent").inc()

    def spooled(self) -> None:
        """Count an impression that waits on disk."""
        self._impressions.labels("spooled").inc()

    def lost(self) -> None:
        """Count an impression that will not reach Kafka."""
        self._impressions.labels("lost").inc()

    def waiting(self, count: int) -> None:
        """Record the length of the queue."""
        self._waiting.set(count)


class RecordMetrics:
    """What became of the slates that can be explained."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._records = Counter(
            "flywheel_slate_records",
            "Records of slates by what became of them: written, too_large or lost.",
            ("status",),
            registry=registry,
        )

    def settled(self, status: str, count: int = 1) -> None:
        """Count records that ended the same way."""
        self._records.labels(status).inc(count)


class RecommendMetrics:
    """What the pipeline did, stage by stage, and what it did it with."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._stages = Histogram(
            "flywheel_stage_seconds", "Time of a pipeline stage.", ("stage",), buckets=_LATENCY, registry=registry
        )
        self._candidates = Counter(
            "flywheel_candidates", "Candidates by the source that named them first.", ("source",), registry=registry
        )
        self._fallbacks = Counter(
            "flywheel_fallbacks",
            "Answers in which something was replaced by its fallback.",
            ("name",),
            registry=registry,
        )
        self._short = Counter(
            "flywheel_short_slates", "Slates with fewer items than were asked for.", ("surface",), registry=registry
        )
        self._empty = Counter("flywheel_empty_slates", "Slates without an item.", ("surface",), registry=registry)
        self._model = Gauge(
            "flywheel_model",
            "1 for the model version that answers, 0 for those that did.",
            ("model_version",),
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._model_age = Gauge(
            "flywheel_model_age_seconds",
            "Time since the end of what the model was trained on.",
            multiprocess_mode="livemostrecent",
            registry=registry,
        )
        self._lag = Histogram(
            "flywheel_tail_lag_seconds",
            "Time from a record's append to its application, of the oldest of those that were applied together.",
            ("topic",),
            buckets=(*_LATENCY, 10.0, 30.0, 60.0, 300.0),
            registry=registry,
        )
        self._applied = Counter("flywheel_tail_records", "Records applied.", ("topic",), registry=registry)
        self._version: str | None = None
        # Looking a series up costs more than counting in it; stages and sources are few.
        self._stage_named = cache(self._stages.labels)
        self._source_named = cache(self._candidates.labels)

    def stage(self, name: str, seconds: float) -> None:
        """Record the time of a stage."""
        self._stage_named(name).observe(seconds)

    def candidates(self, source: str, count: int) -> None:
        """Count candidates."""
        self._source_named(source).inc(count)

    def fallback(self, name: str) -> None:
        """Count a fallback."""
        self._fallbacks.labels(name).inc()

    def short(self, surface: str) -> None:
        """Count a slate that could not be filled."""
        self._short.labels(surface).inc()

    def empty(self, surface: str) -> None:
        """Count a slate without an item."""
        self._empty.labels(surface).inc()

    def model(self, version: str | None, age_s: float | None) -> None:
        """Record the model that answers and its age."""
        if self._version is not None and self._version != version:
            self._model.labels(self._version).set(0)
        if version is not None and age_s is not None:
            self._model.labels(version).set(1)
            self._model_age.set(age_s)
        self._version = version

    def applied(self, topic: str, count: int, lag_s: float | None) -> None:
        """Record that `count` records of a topic were applied, the oldest `lag_s` after its append.

        None for those that were there before anybody followed the topic.
        """
        self._applied.labels(topic).inc(count)
        if lag_s is not None:
            self._lag.labels(topic).observe(lag_s)
