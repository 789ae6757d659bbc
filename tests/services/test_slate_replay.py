"""Slates come out again from the log, whatever happened since: real broker, store, updater and two models."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from waiting import wait_until

from features.config import StoreSettings
from features.updater import run_updater
from models.registry import Champion, Registry
from services.config import Settings
from services.recommend.surfaces import BUILT_IN
from services.recommender import build_recommender
from services.replay import CannotReplay, Replayer
from streaming.bounded import records
from streaming.config import KafkaSettings
from streaming.events import Impression, Interaction, ItemUpserted, Kind
from streaming.ids import RequestId
from streaming.namespace import parse_namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics

NAMESPACE, SEED, ROUNDS = "replaytest", 20261126, 24


class Shop:
    """A recommender under way, and what happens around it."""

    def __init__(self, settings: Settings, world: Any, client: httpx.Client, producer: EventProducer) -> None:
        self.settings = settings
        self.client = client
        self.producer = producer
        self.registry = Registry(str(settings.home / "models"), parse_namespace(NAMESPACE))
        self._world = world
        self._rng = np.random.default_rng(SEED)
        self._number = 0

    def recommend(self, **body: Any) -> dict[str, Any]:
        answer = self.client.post("/v1/recommend", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ask(self) -> str:
        """Ask for somebody, known, new or a guest, and return the request's id."""
        user = f"u{self._rng.integers(0, 45)}"
        guest = {"session_id": "guest", "events": [{"item_id": f"i{self._rng.integers(0, 60)}"}]}
        body = {"user_id": user} if self._rng.random() < 0.8 else guest
        if self._rng.random() < 0.3:
            body["categories"] = ["drama"]
        return self.recommend(**body, n=int(self._rng.integers(1, 20)), exclude=[f"i{self._rng.integers(0, 60)}"])[
            "request_id"
        ]

    def happen(self) -> None:
        """Change an item, add one, and let somebody click."""
        now = time.time_ns() // 1_000_000
        self._number += 1
        envelope = {"received_at": now, "happened_at": now, "producer": "test"}
        changed: ItemUpserted = self._world.items[self._rng.integers(0, 60)]
        self.producer.publish(
            [
                ItemUpserted(
                    event_id=f"change-{self._number}",
                    item_id=changed.item_id,
                    categories=[str(self._rng.choice(["drama", "comedy"]))],
                    attributes=changed.attributes,
                    hidden=bool(self._rng.random() < 0.3),
                    **envelope,
                ),
                ItemUpserted(
                    event_id=f"new-{self._number}", item_id=f"new{self._number}", categories=["drama"], **envelope
                ),
                Interaction(
                    event_id=f"click-{self._number}",
                    item_id=f"i{self._rng.integers(0, 60)}",
                    user_id=f"u{self._rng.integers(0, 45)}",
                    kind=Kind.CLICK,
                    **envelope,
                ),
            ]
        )

    def promote(self, artifact: tuple[Path, str], number: int) -> None:
        folder, version = artifact
        self.registry.add(folder, version)
        self.registry.promote(
            Champion(
                number=number,
                model_version=version,
                change="promote",
                changed_at=self._world.now,
                gate={},
                reason="test",
            )
        )
        wait_until(lambda: self.recommend(user_id="u1", n=1)["model_version"] == version, 30)

    def replayer(self) -> Replayer:
        settings = self.settings
        return Replayer(settings.kafka, settings.topics, self.registry, BUILT_IN, lambda: time.time_ns() // 1_000_000)

    def logged(self, request_ids: list[str]) -> dict[str, Impression]:
        """Return the impressions of requests by their ids, once all are in the log."""

        def found() -> dict[str, Impression]:
            batches = records(self.settings.kafka, self.settings.topics.impressions)
            events = [record.event for batch in batches for record in batch]
            return {event.event_id: event for event in events if isinstance(event, Impression)}

        wait_until(lambda: set(request_ids) <= found().keys(), 30)
        return found()


@pytest.fixture(scope="module")
def shop(
    broker: KafkaSettings, valkey: StoreSettings, world: Any, artifact: Any, serve: Any, tmp_path_factory: Any
) -> Iterator[Shop]:
    print("seed", SEED)  # noqa: T201
    home = tmp_path_factory.mktemp("home")
    base = Settings(namespace=NAMESPACE, kafka=broker, store=valkey.under(home), home=home)
    serving = {"store_deadline_ms": 2_000, "champion_poll_seconds": 0.2, "replay_share": 1.0}
    settings = base.model_copy(update={"serving": base.serving.model_copy(update=serving)})
    ensure_topics(broker, settings.topics)
    producer = EventProducer(broker, settings.topics)
    producer.publish([*world.items, *world.interactions])
    stop = threading.Event()
    updater = threading.Thread(target=run_updater, args=(broker, settings.store, settings.topics, stop))
    updater.start()
    try:
        with serve(build_recommender(settings, CollectorRegistry())) as client:
            one = Shop(settings, world, client, producer)
            wait_until(lambda: client.get("/readyz").status_code == 200, 60)
            one.promote(artifact, 1)
            yield one
    finally:
        stop.set()
        updater.join()
        producer.close()


def test_a_slate_comes_out_again_through_changes_of_items_clicks_and_another_model(
    shop: Shop, other_artifact: tuple[Path, str]
) -> None:
    asked = []
    for number in range(ROUNDS):
        asked.append(shop.ask())
        shop.happen()
        if number == ROUNDS // 2:
            shop.promote(other_artifact, 2)
    logged = shop.logged(asked)
    assert {logged[request_id].model_version for request_id in asked} == {
        entry.model_version for entry in shop.registry.history()
    }
    replayed = [shop.replayer().replay(RequestId(request_id)) for request_id in asked]
    differing = [one for one in replayed if not one.identical]
    assert not differing, differing
    assert any(item.source == "new" for one in replayed for item in one.logged)
    assert any(item.propensity < 1 for one in replayed for item in one.logged)


def test_what_is_missing_of_a_slate_is_named(shop: Shop) -> None:
    request_id = RequestId(shop.ask())
    shop.logged([request_id])
    replayer = shop.replayer()
    with pytest.raises(CannotReplay, match="no slate of the last 24 hours has the request id 'nobody'"):
        replayer.replay(RequestId("nobody"))
    later = replace(replayer, now=lambda: 2**42)
    with pytest.raises(CannotReplay, match="no slate of the last 24 hours"):
        later.replay(request_id)
    elsewhere = Registry(str(shop.settings.home / "elsewhere"), parse_namespace(NAMESPACE))
    forgetful = replace(replayer, registry=elsewhere)
    with pytest.raises(CannotReplay, match="model is not there any more"):
        forgetful.replay(request_id)
    unruly = replace(replayer, surfaces={})
    with pytest.raises(CannotReplay, match="not in force here"):
        unruly.replay(request_id)
