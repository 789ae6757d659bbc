"""Turns the circle once on a small world and writes the report: a process of its own, as Spark has one session each."""

import faulthandler
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from pydantic import SecretStr
from rich.console import Console

from models.before_torch import set_up_torch
from models.config import ModelSettings, RankingSettings, RetrievalSettings
from services.config import Settings
from services.demo.plan import Plan
from services.demo.run import Scene, turn
from services.demo.stages import Stages
from services.demo.world import Replayed
from services.stack import Stack
from streaming.config import KafkaSettings
from streaming.replay import Shift
from streaming.synthetic import World, WorldSpec

WORLD = WorldSpec(users=120, items=80, categories=8, days=60, mean_events=25, seed=3)


def main(bootstrap_servers: str, erasure_key: str, home: Path) -> None:
    """Turn the circle on a running broker; everything else lives under `home`."""
    set_up_torch(os.environ)
    faulthandler.dump_traceback_later(420, exit=True)  # a hang names its place
    world = World(WORLD)
    train, test = world.data.split(0.9)
    replayed = Replayed(world.data, train, test, world.probabilities)
    now, namespace = time.time_ns() // 1_000_000, f"circle{os.getpid()}"
    quick = ModelSettings(
        retrieval=RetrievalSettings(epochs=1, refit_epochs=1, dim=16), ranking=RankingSettings(epochs=1)
    )
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, erasure_key=SecretStr(erasure_key))
    settings = Settings(home=home, namespace=namespace, kafka=kafka, model=quick)
    plan = Plan(namespace=namespace, data="synthetic", now=now)
    scene = Scene(replayed, Shift.before(replayed.cut, now), plan, home, Stages(Console(stderr=True)))
    with Stack(settings, os.environ, lambda _: None) as stack, ThreadPoolExecutor(2) as pool:
        report, _ = turn(scene, stack, os.environ, pool)
    (home / "report.json").write_bytes(msgspec.json.encode(report))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
