"""Applications served over real sockets in this process, and a small world with a model trained on it."""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import uvicorn
from recommender_in_process import InProcess, in_process

from models.artifact import write_artifact
from models.config import ModelSettings, RankingSettings, RetrievalSettings
from services.api.front import Application, Front
from services.config import Settings
from streaming.config import KafkaSettings
from streaming.events import Interaction, ItemUpserted, Kind
from streaming.namespace import Namespace
from streaming.topic_creation import ensure_topics

Serve = Callable[[Application], AbstractContextManager[httpx.Client]]

GENRES = ("drama", "comedy", "horror")
ITEMS, USERS, EVENTS = 60, 40, 25
DAY_MS = 86_400_000


def with_life(application: Application) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """An ASGI app that starts and stops the application as BentoML's worker does; behind the front is nothing."""

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await application.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await application.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"behind"})

    front = Front(behind)
    front.open(application)
    return front


@contextmanager
def served(application: Application) -> Iterator[httpx.Client]:
    """Serve an application on a free port of loopback; yields a client for it."""
    config = uvicorn.Config(with_life(application), host="127.0.0.1", port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    listening.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    port = listening.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class World:
    """Users who mostly stay with one genre: item i is of genre i % 3, as user u is. The last events are recent."""

    now: int
    items: list[ItemUpserted]
    interactions: list[Interaction]

    def history(self, user_id: str) -> list[str]:
        return [event.item_id for event in self.interactions if event.user_id == user_id]


@pytest.fixture(scope="session", autouse=True)
def bentoml_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """BentoML's home, with its model store, apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("bentoml")
        patch.setenv("BENTOML_HOME", str(home))
        patch.setenv("BENTOML_DO_NOT_TRACK", "True")
        yield home


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Serve an application for the length of a with block."""
    return served


@pytest.fixture(scope="session")
def world() -> World:
    """A small world, always the same but for the time."""
    now = time.time_ns() // 1_000_000
    rng = np.random.default_rng(20261125)
    envelope = {"received_at": now, "producer": "test"}
    items = [
        ItemUpserted(
            event_id=f"item-{i}",
            happened_at=now - 30 * DAY_MS,
            item_id=f"i{i}",
            title=f"Item {i}",
            categories=[GENRES[i % 3]],
            attributes={"year": 1950.0 + i},
            **envelope,
        )
        for i in range(ITEMS)
    ]
    interactions = []
    for user in range(USERS):
        own = rng.permutation(np.arange(user % 3, ITEMS, 3))[: EVENTS - 10]
        other = rng.permutation(np.setdiff1d(np.arange(ITEMS), own))[:10]
        times = np.sort(rng.integers(now - 20 * DAY_MS, now - 60_000, EVENTS))
        for item, happened_at in zip(rng.permutation(np.concatenate((own, other))), times, strict=True):
            interactions.append(
                Interaction(
                    event_id=f"event-{len(interactions)}",
                    happened_at=int(happened_at),
                    user_id=f"u{user}",
                    item_id=f"i{item}",
                    kind=Kind.RATING,
                    value=float(rng.integers(1, 6)),
                    **envelope,
                )
            )
    return World(now, items, interactions)


@pytest.fixture(scope="session")
def artifact(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model trained on the world by the trainer itself: its folder and version. Only who needs it imports torch."""
    return _trained(world, tmp_path_factory.mktemp("artifact"), 7)


@pytest.fixture(scope="session")
def other_artifact(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A model of another seed."""
    return _trained(world, tmp_path_factory.mktemp("artifact"), 8)


@pytest.fixture(scope="module")
def recommender(world: World, artifact: tuple[Path, str]) -> Iterator[InProcess]:
    """A recommender's routes in this process, with the world's model."""
    with in_process(world, artifact) as one:
        yield one


@pytest.fixture(scope="module")
def plain(world: World) -> Iterator[InProcess]:
    """The same without a model."""
    with in_process(world, None) as one:
        yield one


def _trained(world: World, folder: Path, seed: int) -> tuple[Path, str]:
    from models.dataset import Tables, training_data  # noqa: PLC0415
    from models.export import artifact_parts  # noqa: PLC0415
    from models.fitting import Timer, fit  # noqa: PLC0415
    from models.spec import Lineage  # noqa: PLC0415

    settings = ModelSettings(
        seed=seed,
        retrieval=RetrievalSettings(length=10, dim=8, heads=1, epochs=2, refit_epochs=1),
        ranking=RankingSettings(buckets=32, epochs=2),
    )
    data = training_data(Tables(**_tables(world), until=world.now))
    fitted = fit(data, settings, Lineage({}, seed, "test"), Timer(lambda _name, _share: None))
    return folder, write_artifact(folder, artifact_parts(fitted, data))


def _tables(world: World) -> dict[str, pa.Table]:
    stamp = pa.timestamp("ms", "UTC")
    events = world.interactions
    interactions = {
        "event_id": [event.event_id for event in events],
        "happened_at": pa.array([event.happened_at for event in events], stamp),
        "user_id": [event.user_id for event in events],
        "session_id": pa.array([None] * len(events), pa.string()),
        "surface": pa.array([None] * len(events), pa.string()),
        "item_id": [event.item_id for event in events],
        "kind": [event.kind.value for event in events],
        "value": [event.value for event in events],
    }
    items = {
        "event_id": [item.event_id for item in world.items],
        "happened_at": pa.array([item.happened_at for item in world.items], stamp),
        "item_id": [item.item_id for item in world.items],
        "removed": [False] * ITEMS,
        "title": [item.title for item in world.items],
        "categories": [item.categories for item in world.items],
        "attributes": [f'{{"year": {item.attributes["year"]}}}' for item in world.items],
        "text": [""] * ITEMS,
    }
    features = {
        "item_id": items["item_id"],
        "event_timestamp": pa.array([world.now - DAY_MS] * ITEMS, stamp),
        "item_interactions_total": [10.0] * ITEMS,
        "item_mean_value": [3.0] * ITEMS,
    }
    return {
        "interactions": pa.table(interactions),
        "items": pa.table(items),
        "item_features": pa.table(features),
        "examples": _examples(world, stamp),
    }


def _examples(world: World, stamp: pa.DataType) -> pa.Table:
    rng = np.random.default_rng(7)
    rows: list[tuple[str, str, int, str, int, str]] = []
    for event in world.interactions[::5]:
        own = set(world.history(event.user_id))
        others = [item.item_id for item in world.items if item.item_id not in own]
        rows.append((event.event_id, event.user_id, event.happened_at, event.item_id, 1, "positive"))
        for negative in rng.choice(others, 8, replace=False):
            rows.append((event.event_id, event.user_id, event.happened_at, str(negative), 0, "uniform"))
    group, user, at, item, label, sampling = zip(*rows, strict=True)
    return pa.table(
        {
            "group_id": group,
            "user_id": user,
            "event_timestamp": pa.array(at, stamp),
            "item_id": item,
            "label": label,
            "sampling": sampling,
            "position": pa.array([None] * len(rows), pa.int32()),
            "interactions_total": [float(EVENTS)] * len(rows),
            "mean_value": [3.0] * len(rows),
            "attributes": ["{}"] * len(rows),
            "item_interactions_total": [10.0] * len(rows),
            "item_mean_value": [3.0] * len(rows),
        }
    )


@pytest.fixture
def settings(broker: KafkaSettings, namespace: Namespace, tmp_path: Path) -> Settings:
    """Settings of one's own on the real broker, whose topics are made, each of one partition."""
    settings = Settings(namespace=namespace, home=tmp_path, kafka=broker.model_copy(update={"partitions": 1}))
    ensure_topics(settings.kafka, settings.topics)
    return settings
