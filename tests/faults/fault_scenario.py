"""One run: a world, a load, faults at random moments, and then everything must be as if there had been none."""

import math
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fault_checks import Besides, check_all, command
from fault_kinds import DISK_FAULTS, FAULTS, Scene
from fault_load import Load
from fault_world import World, wait_for
from kafka.errors import KafkaError

from features.updater import group_of
from services.config import Settings
from streaming.lag import lag

_SETTLE_S = 240.0


@dataclass(frozen=True)
class Recovered:
    """A fault, and the seconds from its end until events were accepted by Kafka again and histories were up to date."""

    fault: str
    accepting_s: float
    up_to_date_s: float


@dataclass(frozen=True)
class Outcome:
    """What a run did and compared."""

    seed: int
    recovered: list[Recovered]
    counts: dict[str, int]
    results: dict[str, int]
    restarts: dict[str, int]


def run_scenario(
    home: Path, seed: int, faults: Sequence[str], longest_s: float, report: Callable[[str], None]
) -> Outcome:
    """Run the named faults in order, each at a random moment; raises AssertionError naming what does not hold."""
    rng = random.Random(seed)
    with World(home, f"faults{seed}", rng) as world, world.auditor() as auditor, ExitStack() as ending:
        load = Load(world.collector_url, seed)
        ending.callback(load.give_up)
        scene = Scene(world, load, longest_s)
        load.start()
        recovered = []
        for name in faults:
            scene.wait(0.5, 3)
            (FAULTS | DISK_FAULTS)[name](scene)
            recovered.append(_recovered(name, world))
            auditor.check()
            report(f"seed {seed}: {recovered[-1]}")
        load.finish(_SETTLE_S)
        _settle(world)
        auditor.check(all_landed=True)
        counts = check_all(world.settings, load.log, Besides(scene.poison, scene.erased))
        counts["killed_between_commits"] = scene.between_commits
        return Outcome(seed, recovered, counts, dict(load.log.results), dict(world.restarts))


def _recovered(name: str, world: World) -> Recovered:
    accepting = world.await_collector(_SETTLE_S)
    began = time.monotonic()
    _caught_up(world)
    return Recovered(name, round(accepting, 1), round(accepting + time.monotonic() - began, 1))


def _caught_up(world: World) -> None:
    """Wait until the histories are up to date: a steady load keeps a second's events behind, at best."""
    wait_for("the histories are up to date", lambda: _lag(world.settings) < 100, _SETTLE_S, world.tend)


def _lag(settings: Settings) -> float:
    """Return how many interactions the updater is behind, infinity while the broker cannot tell."""
    try:
        return _lag_now(settings)
    except KafkaError:
        return math.inf


def _lag_now(settings: Settings) -> int:
    return lag(settings.kafka, settings.topics.interactions, group_of(settings.topics.namespace))


def _settle(world: World) -> None:
    settings = world.settings
    world.await_collector(_SETTLE_S)
    world.end("collector")  # which drains what it holds, and its spool while Kafka is there
    wait_for("every history is written", lambda: _lag(settings) == 0, _SETTLE_S, world.tend)
    world.end("updater")
    world.end("lander")
    command(settings, "land", "--available-now")
