"""The collector as a BentoML service, `services.collector:collector`; `flywheel serve collector` runs it."""

import time

from prometheus_client import CollectorRegistry

from services.api.auth import Gate
from services.api.bento import QUIET, FrontedService, hosted
from services.collect.application import Collector
from services.collect.durable import BrokerCheck, DurableSender
from services.collect.intake import Clerk
from services.config import Settings, load_settings
from services.metrics import CollectorMetrics, HttpMetrics
from services.random_ids import RandomIds
from services.spooling import event_spool
from streaming.marks import Marker
from streaming.namespace import Namespace
from streaming.outbox import Delivery, Outbox

_HOUR_MS = 3_600_000


def build_collector(settings: Settings, registry: CollectorRegistry) -> Collector:
    """Wire the collector from the settings; nothing is connected yet. Raises ErasureKeyMissing."""
    serving, kafka, topics = settings.serving, settings.kafka, settings.topics
    clerk = Clerk(
        now=lambda: time.time_ns() // 1_000_000,
        new_id=RandomIds().new,
        max_age_ms=serving.event_max_age_hours * _HOUR_MS,
        max_ahead_ms=serving.event_max_ahead_seconds * 1000,
        marker=Marker(kafka, topics.namespace),
    )
    metrics = CollectorMetrics(registry)
    delivery = Delivery(serving.acknowledge_deadline_ms, spool=event_spool(settings))
    sender = DurableSender(Outbox(kafka, topics, delivery, metrics.spool.drained))
    return Collector(
        serving,
        Gate(serving.api_keys_file, Namespace(settings.namespace), time.monotonic),
        clerk,
        (sender, BrokerCheck(kafka, topics)),
        (HttpMetrics(registry), metrics),
    )


collector = FrontedService(
    name="collector", inner=hosted(lambda: build_collector(load_settings(), CollectorRegistry())), config=QUIET
)
