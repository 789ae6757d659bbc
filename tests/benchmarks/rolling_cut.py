"""One cut of the rolling benchmark, the pipeline's NDCG@10 by user; a process of its own: Spark has one session each.

Used as `rolling_cut.py PERCENT WORK`. The stack's home is a folder in WORK that is removed when the figures are kept.
"""

import faulthandler
import os
import shutil
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import machine  # noqa: F401 - finds the packages
import msgspec
from rich.console import Console
from rolling_data import Pipeline, keep, model_settings, pipeline_file, values_of, world_at

from models.before_torch import set_up_torch
from models.heldout import frozen_cases, frozen_quality
from services.config import Settings
from services.demo.client import ApiClient
from services.demo.plan import Plan
from services.demo.quality import Answers, ask_frozen, ask_live
from services.demo.run import Running, Scene, bring_up, clickers
from services.demo.stages import Stages
from services.demo.tour import first_recommendation
from services.demo.world import Replayed
from services.stack import Stack, printer
from streaming.ids import ItemId
from streaming.replay import Shift

_HANGS_S = 1800


def main(percent: int, work: Path) -> None:
    """Replay what happened up to the cut through the pipeline, ask what it serves, and keep the figures."""
    set_up_torch(os.environ)
    faulthandler.dump_traceback_later(_HANGS_S, exit=True)  # a hang names its place
    home, console, started = work.resolve() / f"home-{percent}", Console(), time.perf_counter()
    shutil.rmtree(home, ignore_errors=True)
    world, now = world_at(percent), time.time_ns() // 1_000_000
    settings = Settings(home=home, namespace=f"rolling{percent}")
    plan = Plan(namespace=settings.namespace, data=world.data.name, now=now)
    scene = Scene(world, Shift.before(world.cut, now), plan, home, Stages(console))
    with Stack(settings, os.environ, printer(console)) as stack, ThreadPoolExecutor(2) as pool:
        running = bring_up(scene, stack, os.environ, pool)
        frozen, live = _ask(scene, running)
    keep(
        pipeline_file(work, percent),
        Pipeline(
            percent=percent,
            seconds=time.perf_counter() - started,
            groups=len(live),
            values=values_of(world, frozen, live),
            seen_rate=_seen_rate(world, frozen),
            balanced=running.accounted.balanced,
            settings=model_settings(settings),
            taught=msgspec.to_builtins(running.taught),
        ),
    )
    shutil.rmtree(home)


def _ask(scene: Scene, running: Running) -> tuple[Answers, list[list[ItemId]]]:
    """Return what is served to the test users, once the trained model serves: as of the cut, and group by group."""
    endpoints = running.endpoints
    with ApiClient(str(endpoints.recommender_url), str(endpoints.collector_url)) as client:
        first_recommendation(client, clickers(scene.world)[0], running.taught.model_version)
        with scene.stages.stage("evaluate", "Evaluate what is served on the held-out events") as stage:
            frozen = ask_frozen(client, scene.world, scene.shift)
            return frozen, ask_live(client, scene.world, scene.shift, stage.progress)


def _seen_rate(world: Replayed, frozen: Answers) -> float:
    events = Counter(event.item_id for event in world.train)
    quality = frozen_quality(frozen_cases(world.train, world.test), frozen, events)
    return quality["all"].seen_rate


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
