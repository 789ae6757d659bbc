"""Commands that run until they are stopped: the services and the consumers."""

import os
import threading
import time
from enum import StrEnum

import typer

from services.commands.common import say, stop_on_signal


class Service(StrEnum):
    """The HTTP services."""

    RECOMMENDER = "recommender"
    COLLECTOR = "collector"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("serve")(serve)
    app.command("drain-spool")(drain_spool)
    app.command("update-history")(update_history)


def serve(service: Service) -> None:
    """Run one of the HTTP services."""
    from services.config import load_settings
    from services.hosting import serve as host

    host(service.value, load_settings(), os.environ)


def drain_spool() -> None:
    """Send to Kafka what collectors that are gone have left in the spool folder, then end."""
    from services.config import load_settings
    from services.draining import drain

    settings = load_settings()
    stop = threading.Event()
    stop_on_signal(stop)
    say([f"Sent {drain(settings, stop)} records"])


def update_history() -> None:
    """Keep the users' histories in the online store, from the interactions in Kafka."""
    from prometheus_client import CollectorRegistry

    from features.updater import run_updater
    from services import heap
    from services.config import load_settings
    from services.consumer_metrics import ConsumerMetrics
    from services.metrics_server import metrics_server
    from streaming.consumer import ConsumerCounts

    settings = load_settings()
    stop = threading.Event()
    stop_on_signal(stop)
    counts, registry = ConsumerCounts(), CollectorRegistry()
    metrics = ConsumerMetrics(counts, lambda: time.time_ns() // 1_000_000, time.monotonic)
    registry.register(metrics)
    with metrics_server(settings.serving.host, settings.serving.metrics_port, registry, metrics.alive):
        heap.freeze()
        run_updater(settings.kafka, settings.store.under(settings.home), settings.topics, stop, counts)
