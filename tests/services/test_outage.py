"""Kafka goes away under both services and comes back."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry
from waiting import wait_until

from features.config import StoreSettings
from services.collector import build_collector
from services.config import Settings
from services.recommender import build_recommender
from streaming.config import KafkaSettings
from streaming.embedded.broker import start_broker
from streaming.embedded.ports import choose_port
from streaming.namespace import Namespace
from streaming.topics import Topics, ensure_topics

Serve = Callable[[Any], AbstractContextManager[httpx.Client]]


def test_while_kafka_is_away_slates_are_answered_and_events_refused_and_both_recover(
    cache: Path,
    valkey: StoreSettings,
    namespace: Namespace,
    serve: Serve,
    tmp_path: Path,
) -> None:
    kafka = KafkaSettings(port=choose_port(None, "a test"), partitions=1)
    running = start_broker(tmp_path, kafka, cache, os.environ)
    try:
        ensure_topics(running.settings, Topics(namespace))
        settings = Settings(namespace=namespace, home=tmp_path, kafka=running.settings, store=valkey)
        quick = settings.serving.model_copy(update={"acknowledge_deadline_ms": 1_500})
        settings = settings.model_copy(update={"serving": quick})
        metrics = CollectorRegistry()
        with (
            serve(build_collector(settings, CollectorRegistry())) as collector,
            serve(build_recommender(settings, metrics)) as recommender,
        ):

            def send(path: str, **body: Any) -> int:
                return collector.post(path, json=body).status_code

            def ask() -> dict[str, Any]:
                answer = recommender.post("/v1/recommend", json={"user_id": "u1", "n": 5})
                assert answer.status_code == 200, answer.text
                return answer.json()

            click = {"user_id": "u1", "item_id": "i1", "kind": "click"}
            wait_until(lambda: collector.get("/readyz").status_code == 200)
            wait_until(lambda: recommender.get("/readyz").status_code == 200)
            assert send("/v1/items", items=[{"item_id": f"i{number}"} for number in range(5)]) == 200
            assert send("/v1/events", **click) == 200
            wait_until(lambda: len(ask()["slate"]) == 5, 5)
            sent = wait_until(lambda: metrics.get_sample_value("flywheel_impressions_total", {"status": "sent"}))

            running.stop()
            refused = collector.post("/v1/events", json=click)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            wait_until(lambda: collector.get("/readyz").status_code == 503)
            assert send("/v1/events", **click) == 503
            for _ in range(20):
                assert len(ask()["slate"]) == 5

            running = start_broker(tmp_path, kafka, cache, os.environ)
            wait_until(lambda: send("/v1/events", **click) == 200)
            assert collector.get("/readyz").status_code == 200
            wait_until(
                lambda: metrics.get_sample_value("flywheel_impressions_total", {"status": "sent"}) >= sent + 20, 60
            )
            assert metrics.get_sample_value("flywheel_impressions_total", {"status": "lost"}) is None
            assert send("/v1/items", item_id="later", categories=["after"]) == 200
            wait_until(
                lambda: recommender.post("/v1/recommend", json={"user_id": "u", "categories": ["after"]}).json()[
                    "slate"
                ]
            )
    finally:
        running.stop()
