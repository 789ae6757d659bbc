"""The real thing, filled with the made-up world: broker, Valkey, model registry, and the recommender that serves it."""

import os
import sys
import time
from argparse import Namespace as Options
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from environ import without_settings
from serving_world import World

from features.project import USER_VIEW
from features.store import FeatureStore, as_datetime
from features.valkey import start_valkey
from models.config import artifacts_url
from models.registry import Champion, Registry
from services.config import Settings
from services.environment import settings_environ
from services.settings_serving import ServingSettings
from services.stack import answers
from streaming.embedded.broker import start_broker
from streaming.embedded.java import user_cache
from streaming.embedded.ports import choose_port
from streaming.embedded.process import ChildProcess, Command
from streaming.ids import UserId
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics

SURFACES = Path(__file__).with_name("serving.yaml")

_USERS_AT_ONCE = 5_000
_READY_TIMEOUT_S = 180


@dataclass(frozen=True)
class Stack:
    """What runs: the ports that answer, the processes by name, and the recommender's seconds from start to ready.

    It was started twice: `ready_s` from the log and the model registry, `again_s` from what that start had kept.
    """

    port: int
    bare_port: int
    pids: dict[str, int]
    ready_s: float
    again_s: float


@contextmanager
def running(home: Path, world: World, artifact: Path, version: str, options: Options) -> Iterator[Stack]:
    """Start everything under `home`, which is empty, and fill it; all is stopped in the end.

    Of the program's options `interactions` is how many the log has, `workers` the recommender's processes.
    """
    environ = without_settings()
    with ExitStack() as held:
        settings = Settings(home=home)
        broker = start_broker(home, settings.kafka, user_cache(os.environ), environ)
        held.callback(broker.stop)
        valkey = start_valkey(home, settings.store, environ)
        held.callback(valkey.stop)
        port, bare_port = (choose_port(None, "no port of anybody") for _ in range(2))
        settings = settings.model_copy(
            update={
                "kafka": broker.settings,
                "store": valkey.settings.under(home),
                "model": settings.model.under(home),
                "serving": ServingSettings(
                    recommender_port=port, recommender_workers=options.workers, surfaces_file=SURFACES
                ),
            }
        )
        fill(settings, world, artifact, version, options.interactions)
        environ |= settings_environ(settings)
        began = time.monotonic()
        with _served(home, environ, "recommender", port) as first:
            ready_s = time.monotonic() - began
            first.wait_ready(lambda: any((home / "catalogue").rglob("manifest.json")), _READY_TIMEOUT_S)
        began = time.monotonic()
        recommender = held.enter_context(_served(home, environ, "recommender", port))
        again_s = time.monotonic() - began
        bare = held.enter_context(_served(home, environ, "bare", bare_port))
        pids = {
            "recommender": recommender.pid,
            "bare": bare.pid,
            "valkey": valkey.process.pid,
            "broker": broker.process.pid,
        }
        yield Stack(port, bare_port, pids, ready_s, again_s)


def _served(home: Path, environ: dict[str, str], name: str, port: int) -> ChildProcess:
    program = [str(Path(__file__).with_name("serving_bare.py")), str(port)]
    argv = [sys.executable, *(["-m", "services.cli", "serve", name] if name == "recommender" else program)]
    command = Command(name, argv, environ, home / "logs" / f"{name}.log")
    return ChildProcess.launch(command, lambda: answers("127.0.0.1", port), _READY_TIMEOUT_S)


def fill(settings: Settings, world: World, artifact: Path, version: str, interactions: int) -> None:
    """Fill topics, registry and online store with the world and the model."""
    namespace = Namespace(settings.namespace)
    ensure_topics(settings.kafka, settings.topics)
    producer = EventProducer(settings.kafka, settings.topics)
    producer.publish(world.items())
    producer.publish(world.newest(interactions))
    producer.close()
    registry = Registry(artifacts_url(settings.model), namespace)
    registry.add(artifact, version)
    registry.promote(
        Champion(
            number=1, model_version=version, change="promote", changed_at=world.spec.now, gate={}, reason="benchmark"
        )
    )
    _write_users(FeatureStore(settings.store, namespace), world)


def _write_users(store: FeatureStore, world: World) -> None:
    """Write what the updater and the materialisation write: every user's history, and features of yesterday."""
    store.apply()
    pandas = import_module("pandas")
    now, total = world.spec.now, world.spec.events
    row = {"interactions_30d": total // 2, "interactions_total": total, "mean_value": 3.5, "attributes": '{"age":31.0}'}
    for start in range(0, world.spec.users, _USERS_AT_ONCE):
        some = range(start, min(start + _USERS_AT_ONCE, world.spec.users))
        store.write_histories({UserId(world.user_id(user)): (world.history(user), now * 1_000) for user in some})
        users = [{"user_id": world.user_id(user), "event_timestamp": as_datetime(now - 1_000), **row} for user in some]
        store._feast.write_to_online_store(USER_VIEW.name, pandas.DataFrame(users))
