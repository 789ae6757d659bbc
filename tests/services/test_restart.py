"""A recommender that starts again goes on from what it has kept: real broker and store."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from waiting import wait_until

from features.config import StoreSettings
from models.registry import Champion, Registry
from services.config import Settings
from services.recommender import build_recommender
from streaming.config import KafkaSettings
from streaming.events import Interaction, ItemRemoved, ItemUpserted, Kind
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics

Serve = Callable[[Any], AbstractContextManager[httpx.Client]]


@dataclass
class Start:
    """One start: its client, and how many records of a topic it read."""

    settings: Settings
    client: httpx.Client
    metrics: CollectorRegistry

    def read(self, topic: str) -> float:
        return self.metrics.get_sample_value("flywheel_tail_records_total", {"topic": topic}) or 0

    def counts(self) -> tuple[float, float]:
        topics = self.settings.topics
        return self.read(topics.items), self.read(topics.interactions)

    def most_used(self) -> dict[str, int]:
        answer = self.client.post("/v1/popular", json={"n": 100}).json()
        return {item["item_id"]: item["uses"] for item in answer["items"]}

    def in_category(self, category: str) -> set[str]:
        body = {"user_id": "nobody", "n": 100, "categories": [category], "surface": "probe"}
        return {item["item_id"] for item in self.client.post("/v1/recommend", json=body).json()["slate"]}

    def kept(self) -> list[Path]:
        return sorted((self.settings.home / "catalogue" / self.settings.namespace).glob("0*/manifest.json"))


@pytest.fixture
def settings(broker: KafkaSettings, valkey: StoreSettings, namespace: Namespace, tmp_path: Path) -> Settings:
    base = Settings(namespace=namespace, kafka=broker, store=valkey.under(tmp_path), home=tmp_path)
    return base.model_copy(update={"serving": base.serving.model_copy(update={"champion_poll_seconds": 0.2})})


@pytest.fixture
def start(settings: Settings, serve: Serve) -> Callable[[Callable[[Start], None]], None]:
    """Start a recommender, use it once it is ready, and stop it."""

    def run(use: Callable[[Start], None]) -> None:
        metrics = CollectorRegistry()
        with serve(build_recommender(settings, metrics)) as client:
            one = Start(settings, client, metrics)
            wait_until(lambda: client.get("/readyz").status_code == 200, 60)
            use(one)

    return run


def test_a_start_reads_what_the_log_has_gained_and_a_damaged_snapshot_is_made_good_by_the_log(
    settings: Settings, world: Any, artifact: tuple[Path, str], start: Callable[[Callable[[Start], None]], None]
) -> None:
    ensure_topics(settings.kafka, settings.topics)
    producer = EventProducer(settings.kafka, settings.topics)
    producer.publish([*world.items, *world.interactions])
    _promote(settings, artifact, world.now)
    found: dict[str, Any] = {}

    def first(one: Start) -> None:
        assert one.counts() == (len(world.items), len(world.interactions))
        found["uses"] = one.most_used()
        wait_until(one.kept)

    start(first)
    assert "i1" in found["uses"]
    producer.publish([_put("fresh", world.now), _removed("i0", world.now), _used("fresh", world.now)])
    producer.close()

    def again(one: Start) -> None:
        # The removal has a tombstone behind it.
        assert one.counts() == (3, 1)
        assert one.in_category("novelty") == {"fresh"}
        assert "i0" not in one.in_category("drama")
        expected = {item: uses for item, uses in found["uses"].items() if item != "i0"} | {"fresh": 1}
        assert one.most_used() == expected
        wait_until(lambda: one.kept() != found.get("before"))
        found["everything"] = one.in_category("drama")

    start(again)
    (manifest,) = Start(settings, None, None).kept()  # type: ignore[arg-type]
    (manifest.parent / "shown.npy").write_bytes(b"damaged")

    def from_the_log(one: Start) -> None:
        assert one.counts() == (len(world.items) + 3, len(world.interactions) + 1)
        assert one.in_category("drama") == found["everything"]
        assert one.most_used()["fresh"] == 1

    start(from_the_log)


def _promote(settings: Settings, artifact: tuple[Path, str], now: int) -> None:
    folder, version = artifact
    registry = Registry(str(settings.home / "models"), Namespace(settings.namespace))
    registry.add(folder, version)
    change = Champion(number=1, model_version=version, change="promote", changed_at=now, gate={}, reason="test")
    registry.promote(change)


def _put(item_id: str, now: int) -> ItemUpserted:
    return ItemUpserted(
        event_id=f"put-{item_id}",
        happened_at=now,
        received_at=now,
        producer="test",
        item_id=item_id,
        categories=["novelty"],
    )


def _removed(item_id: str, now: int) -> ItemRemoved:
    return ItemRemoved(event_id=f"gone-{item_id}", happened_at=now, received_at=now, producer="test", item_id=item_id)


def _used(item_id: str, now: int) -> Interaction:
    return Interaction(
        event_id=f"use-{item_id}",
        happened_at=now,
        received_at=now,
        producer="test",
        item_id=item_id,
        kind=Kind.VIEW,
        user_id="u1",
    )
