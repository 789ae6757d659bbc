"""Prometheus metrics of the services. BentoML's /metrics shows them, for all workers of a service together."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_LATENCY = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


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

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answer."""
        known = method if method in ("GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS") else "other"
        self._seconds.labels(route, known, str(status)).observe(seconds)


class CollectorMetrics:
    """What became of the events that applications sent."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "flywheel_events",
            "Parts of request bodies by kind and by what became of them: accepted, rejected or not_durable.",
            ("kind", "status"),
            registry=registry,
        )
        self._acknowledge = Histogram(
            "flywheel_acknowledge_seconds",
            "Time from handing events to the producer to their acknowledgement.",
            buckets=_LATENCY,
            registry=registry,
        )
        self._connected = Gauge(
            "flywheel_producer_connected",
            "1 while a producer is connected to Kafka.",
            multiprocess_mode="livemin",
            registry=registry,
        )

    def settled(self, kind: str, status: str, count: int = 1) -> None:
        """Count parts that ended the same way."""
        self._events.labels(kind, status).inc(count)

    def acknowledged(self, seconds: float) -> None:
        """Record how long Kafka took."""
        self._acknowledge.observe(seconds)

    def connected(self, up: bool) -> None:
        """Record whether a producer is connected."""
        self._connected.set(up)
