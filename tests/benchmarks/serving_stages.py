"""`stages`: what is computed for one request, in CPU-ms of this thread: no server, no store."""

import time
from argparse import Namespace
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from serving_stack import SURFACES
from serving_world import World

from features.popularity import PopularityWindow
from models.scorer import Scorer
from services.recommend.live import Live
from services.recommend.pipeline import Ask, Stopwatch, choose
from services.recommend.state import State
from services.recommend.surfaces import HOME, Surface, in_force
from services.recommend.surfaces_file import read_rules
from streaming.ids import ItemId

KEY = "stages"
N = 20
_USERS, _ROUNDS = 300, 8


def run(options: Namespace, world: World, artifact: Path) -> dict[str, Any]:
    """Measure on the benchmark's world."""
    live = live_world(world, artifact, options.interactions)
    return {"cpu_ms": cpu_ms(live, world, states(world, _USERS), _ROUNDS), "users": _USERS, "rounds": _ROUNDS}


def table(report: dict[str, Any]) -> Table:
    """Return a row for each stage."""
    shown = Table(
        title="Stages of computing, CPU-ms of this thread",
        caption=f"mean over {report['users']} users, of each the cheapest of {report['rounds']} rounds",
    )
    for name in ("stage", "CPU-ms"):
        shown.add_column(name)
    for stage, value in report["cpu_ms"].items():
        shown.add_row(stage, f"{value:.3f}")
    return shown


@cache
def home_surface() -> Surface:
    """Return the surface that is measured."""
    return in_force(read_rules(SURFACES), {})[HOME]


def live_world(world: World, artifact: Path, interactions: int) -> Live:
    """Return the live state with the artifact's model, the catalogue, and the newest interactions counted."""
    live = Live.build(Scorer.load(artifact), world.items(), PopularityWindow())
    live.observe(world.newest(interactions))
    return live


def states(world: World, count: int) -> list[State]:
    """Return the state of each of `count` users, drawn with the world's seed, as the store would give it."""
    users = np.random.default_rng(world.spec.seed).choice(world.spec.users, count).tolist()
    found = []
    for user in users:
        history = world.history(user)
        total = float(len(history.events))
        features = {"interactions_30d": total / 2, "interactions_total": total, "mean_value": 3.5}
        found.append(State(history, frozenset(map(ItemId, history.items)), {**features, "attributes": '{"age":31.0}'}))
    return found


def ask(live: Live, world: World, state: State, seed: int) -> dict[str, float]:
    """Answer once; returns the seconds of this thread's CPU by stage."""
    watch = Stopwatch(time.thread_time)
    question = Ask(n=N, surface=home_surface(), as_of=world.spec.now + seed, seed=seed)
    choose(live, question, state, watch)
    return watch.seconds


def cpu_ms(live: Live, world: World, asked: Sequence[State], rounds: int) -> dict[str, float]:
    """Return the CPU-ms of each stage and of all, mean over requests.

    Every request is answered in several rounds, of which its cheapest one counts: the others are dearer by what
    neighbours on the machine do to the caches.
    """
    laps = [[ask(live, world, state, seed) for seed, state in enumerate(asked)] for _ in range(rounds)]
    best = [min(same, key=lambda lap: sum(lap.values())) for same in zip(*laps, strict=True)]
    stages = {name: 1000 * float(np.mean([lap[name] for lap in best])) for name in best[0]}
    return {**stages, "all": sum(stages.values())}
