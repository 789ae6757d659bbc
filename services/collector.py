"""The collector as a BentoML service: `bentoml serve services.collector:collector` or `flywheel serve collector`."""

import time
import uuid

import bentoml
from prometheus_client import CollectorRegistry

from services.api.auth import Gate
from services.api.bento import QUIET, FrontedService
from services.collect.application import Collector
from services.collect.durable import BrokerCheck, DurableSender
from services.collect.intake import Clerk
from services.config import load_settings
from services.metrics import CollectorMetrics, HttpMetrics
from streaming.namespace import Namespace

_HOUR_MS = 3_600_000


class CollectorService:
    """Builds the collector from the settings and holds its connections while the process lives."""

    def __init__(self) -> None:
        settings = load_settings()
        serving, kafka, topics = settings.serving, settings.kafka, settings.topics
        self._sender = DurableSender(kafka, topics, serving.acknowledge_deadline_ms)
        self._check = BrokerCheck(kafka, topics)
        registry = CollectorRegistry()
        self.application = Collector(
            serving,
            Gate(serving.api_keys_file, Namespace(settings.namespace), time.monotonic),
            Clerk(
                now=lambda: time.time_ns() // 1_000_000,
                new_id=lambda: uuid.uuid4().hex,
                max_age_ms=serving.event_max_age_hours * _HOUR_MS,
                max_ahead_ms=serving.event_max_ahead_seconds * 1000,
            ),
            (self._sender, self._check),
            (HttpMetrics(registry), CollectorMetrics(registry)),
        )

    @bentoml.on_startup
    async def start(self) -> None:
        """Connect to Kafka; requests are answered meanwhile, with 503."""
        self._sender.start()

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Send what is queued and disconnect."""
        await self._sender.stop()
        self._check.close()


collector = FrontedService(name="collector", inner=CollectorService, config=QUIET)
