"""Models and rules change under load: no request fails, and every answer is of one model and one set of rules."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
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
from services.settings_serving import ServingSettings
from streaming.config import KafkaSettings
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics

Serve = Callable[[Any], AbstractContextManager[httpx.Client]]

CLIENTS = 4
SWAPS = 4


class Load:
    """Clients that ask one request after the other until they are stopped, and what they were answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self.answers: list[dict[str, Any]] = []
        self.answers_of: list[list[dict[str, Any]]] = [[] for _ in range(CLIENTS)]
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stop.is_set():
                body = {"session_id": f"s{number}", "events": [{"item_id": f"i{number}"}], "n": 10}
                try:
                    answer = client.post("/v1/session/recommend", json=body)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                self.statuses.append(answer.status_code)
                self.answers.append(found := answer.json())
                self.answers_of[number].append(found)


@pytest.fixture
def settings(broker: KafkaSettings, valkey: StoreSettings, namespace: Namespace, tmp_path: Path) -> Settings:
    serving = ServingSettings(champion_poll_seconds=0.2, surfaces_file=tmp_path / "surfaces.yaml")
    settings = Settings(namespace=namespace, home=tmp_path, kafka=broker, store=valkey, serving=serving)
    ensure_topics(broker, settings.topics)
    return settings


def test_models_and_surfaces_change_under_load_without_one_failed_request(
    settings: Settings, world: Any, artifact: tuple[Path, str], other_artifact: tuple[Path, str], serve: Serve
) -> None:
    file = settings.home / "surfaces.yaml"
    file.write_text("surfaces: {home: {pins: [{item_id: i50, position: 0}]}}")
    producer = EventProducer(settings.kafka, settings.topics)
    producer.publish([*world.items, *world.interactions])
    producer.close()
    registry = Registry(str(settings.home / "models"), Namespace(settings.namespace))
    versions = []
    for folder, version in (artifact, other_artifact):
        registry.add(folder, version)
        versions.append(version)

    def promote(number: int) -> str:
        version = versions[number % 2]
        registry.promote(
            Champion(
                number=number + 1, model_version=version, change="promote", changed_at=world.now, gate={}, reason="test"
            )
        )
        return version

    promote(0)
    with serve(build_recommender(settings, CollectorRegistry())) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200, 60)
        with Load(str(client.base_url)) as load:
            wait_until(lambda: load.answers)
            for swap in range(1, SWAPS + 1):
                pin = f"i{50 + swap}"
                asked = len(load.answers)
                version = promote(swap)
                file.write_text(f"surfaces: {{home: {{pins: [{{item_id: {pin}, position: 0}}]}}}}")
                wait_until(
                    lambda asked=asked, version=version, pin=pin: any(
                        (answer["model_version"], answer["slate"][0]["item_id"]) == (version, pin)
                        for answer in load.answers[asked:]
                        if "slate" in answer
                    ),
                    60,
                )
            file.write_text("surfaces: {home: {pinz: []}}")  # broken, so the last ones stay
            before = [len(answers) for answers in load.answers_of]
            wait_until(lambda: all(len(own) > asked + 12 for own, asked in zip(load.answers_of, before, strict=True)))
    assert load.failures == []
    assert set(load.statuses) == {200}
    assert len(load.statuses) > 100
    assert {answer["model_version"] for answer in load.answers} == set(versions)
    assert {tuple(answer["fallbacks"]) for answer in load.answers} == {()}
    assert {len({item["item_id"] for item in answer["slate"]}) for answer in load.answers} == {10}
    # Rules are swapped whole: each version of them goes with the one pin that it has.
    pins = {(answer["surfaces_version"], answer["slate"][0]["item_id"]) for answer in load.answers}
    assert len(pins) == len({version for version, _ in pins}) == SWAPS + 1
    # The first answer of each client may have been asked for before the last swap.
    last = [answer for own, asked in zip(load.answers_of, before, strict=True) for answer in own[asked + 1 :]]
    assert {answer["slate"][0]["item_id"] for answer in last} == {f"i{50 + SWAPS}"}
