"""The demonstration as one chain: publish, land, build features, train, promote, serve, click, measure."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from features.store import load_feast
from features.updater import group_of
from services.config import Settings
from services.demo.client import ApiClient
from services.demo.freshness import Freshness, measure_freshness
from services.demo.plan import Plan, open_plan, save_plan
from services.demo.quality import (
    Frozen,
    Prequential,
    ask_baselines,
    ask_frozen,
    ask_live,
    compare_frozen,
    compare_live,
)
from services.demo.report import Report, checks_of, print_report, versions, write_report
from services.demo.slow_path import Accounted, build_all_features, land_and_account, open_lake
from services.demo.stages import Stages
from services.demo.teach import Taught, load_trainer, teach
from services.demo.tour import Tour, first_recommendation, take_tour
from services.demo.world import Replayed, load_world
from services.endpoints import Endpoints
from services.home import held
from services.stack import Stack, Started
from streaming.errors import FlywheelError
from streaming.events import Event
from streaming.ids import UserId
from streaming.lag import lag
from streaming.producer import EventProducer
from streaming.replay import Replay, Shift

_CLICKS = 50
_LAG_POLL_S = 0.2
_STALLED_S = 60


class HistoriesStalled(FlywheelError):
    """The history updater does not get on with what was published."""


@dataclass(frozen=True)
class Scene:
    """What every stage works with."""

    world: Replayed
    shift: Shift
    plan: Plan
    home: Path
    stages: Stages


@dataclass(frozen=True)
class Running:
    """Services that serve a trained model: where, with which settings, and what it was made of."""

    endpoints: Endpoints
    settings: Settings
    accounted: Accounted
    taught: Taught


@dataclass(frozen=True)
class Served:
    """What was measured on the running services."""

    first_after_s: float
    tour: Tour
    freshness: Freshness
    frozen: Frozen
    prequential: Prequential


def run_demo(settings: Settings, environ: Mapping[str, str], console: Console, *, data: str, once: bool) -> bool:
    """Run the whole circle under the home folder; returns whether every check passed.

    An interrupted run goes on with the same namespace and times. Raises a FlywheelError when a stage cannot be done.
    """
    stages = Stages(console)
    with held(settings.home):
        home = settings.home / "demo"
        world = load_world(data)
        plan = open_plan(home, data, time.time_ns() // 1_000_000)
        scene = Scene(world, Shift.before(world.cut, plan.now), plan, home, stages)
        own = settings.model_copy(update={"home": home, "namespace": plan.namespace})
        with Stack(own, environ, _report_to(console)) as stack, ThreadPoolExecutor(2) as pool:
            report, endpoints = turn(scene, stack, environ, pool)
            save_plan(home, msgspec.structs.replace(plan, finished=True))
            write_report(report, Path("report.json"))
            print_report(report, console)
            if not once:
                _serve_on(stack, scene, endpoints, console)
    return all(check.passed for check in report.checks)


def turn(scene: Scene, stack: Stack, environ: Mapping[str, str], pool: ThreadPoolExecutor) -> tuple[Report, Endpoints]:
    """Turn the circle once."""
    running = bring_up(scene, stack, environ, pool)
    served = _measure(scene, running.endpoints, running.settings, running.taught, pool)
    return _reported(scene, running.accounted, running.taught, served), running.endpoints


def bring_up(scene: Scene, stack: Stack, environ: Mapping[str, str], pool: ThreadPoolExecutor) -> Running:
    """Publish, land, build features, train and serve what happened before the cut."""
    cut = scene.shift(scene.world.cut)
    # What takes seconds to start or to import does so beside earlier stages, which leave a core half idle.
    feast = pool.submit(load_feast)
    lake = pool.submit(open_lake, stack.settings, environ)
    with scene.stages.stage("start", "Start Kafka, the store and the topics"):
        settings = stack.start_stores()
    published = _publish(scene, settings)
    spark = lake.result()
    try:
        stack.launch_http()
        accounted = land_and_account(spark, settings, published, scene.stages)
        feast.result()
        loaded = pool.submit(load_trainer)
        build_all_features(spark, settings, cut, scene.stages)
    finally:
        spark.stop()
    with scene.stages.stage("train", "Train with TorchRec while the services read what was published") as stage:
        loaded.result()
        training = pool.submit(teach, settings, scene.world, cut, stage)
        stack.launch_updater()
        endpoints = stack.await_services()
        _await_histories(stack, settings)
        taught = training.result()
    return Running(endpoints, settings, accounted, taught)


def _publish(scene: Scene, settings: Settings) -> dict[str, int]:
    """Publish what happened before the cut; returns the acknowledged records by topic."""
    world, plan = scene.world, scene.plan
    replay = Replay(world.data, scene.shift, plan.now)
    if plan.acknowledged is None:
        with scene.stages.stage(
            "publish", f"Publish {len(world.train):,} interactions, their users and items"
        ) as stage:
            producer = EventProducer(settings.kafka, settings.topics)
            try:
                events: Iterable[Event] = chain(
                    replay.catalogue(world.train), replay.users(world.train), replay.interactions(world.train)
                )
                acknowledged = producer.publish(events, stage.progress)
            finally:
                producer.close()
        counts = [(topic, partition, count) for (topic, partition), count in sorted(acknowledged.items())]
        plan = msgspec.structs.replace(plan, published=counts)
        save_plan(scene.home, plan)
    by_topic: Counter[str] = Counter()
    for topic, _, count in plan.published or ():
        by_topic[topic] += count
    return dict(by_topic)


def _await_histories(stack: Stack, settings: Settings) -> None:
    """Wait until the history updater has read what was published.

    Raises ChildDied when it ended instead, HistoriesStalled when it no longer gets on.
    """
    group, behind, moved = group_of(settings.topics.namespace), -1, time.monotonic()
    while (now_behind := lag(settings.kafka, settings.topics.interactions, group)) > 0:
        stack.check()
        if now_behind != behind:
            behind, moved = now_behind, time.monotonic()
        if time.monotonic() - moved > _STALLED_S:
            raise HistoriesStalled(f"the history updater has read nothing for {_STALLED_S} s and is {behind:,} behind")
        time.sleep(_LAG_POLL_S)


def _measure(
    scene: Scene, endpoints: Endpoints, settings: Settings, taught: Taught, pool: ThreadPoolExecutor
) -> Served:
    """Ask, click and evaluate over HTTP."""
    world, seed = scene.world, settings.model.seed
    items = {item.item_id: item for item in world.data.items}
    users = clickers(world)
    with ApiClient(str(endpoints.recommender_url), str(endpoints.collector_url)) as client:
        first_recommendation(client, users[0], taught.model_version)
        first_after_s = scene.stages.elapsed
        with scene.stages.stage("tour", "Ask for users, guests and a new item, and click") as stage:
            tour = take_tour(client, users[0], items, time.monotonic)
            for stop in tour.stops:
                stage.say(f"{stop.who}: {', '.join(stop.titles)}" + (f" ({stop.fallbacks})" if stop.fallbacks else ""))
            stage.say(
                f"after a click on {items[tour.change.clicked].title}: {tour.change.milliseconds:.0f} ms to change"
            )
        with scene.stages.stage("freshness", f"Click {_CLICKS} times and wait for another slate") as stage:
            stage.expect(_CLICKS)
            freshness = measure_freshness(client, users[1 : _CLICKS + 1], time.monotonic, stage.progress)
        with scene.stages.stage("evaluate", "Evaluate what is served on the held-out events") as stage:
            asked = pool.submit(ask_baselines, world)
            frozen = ask_frozen(client, world, scene.shift)
            live = ask_live(client, world, scene.shift, stage.progress)
            baselines = asked.result()
            return Served(
                first_after_s,
                tour,
                freshness,
                compare_frozen(world, frozen, baselines.frozen, seed),
                compare_live(world, live, baselines.live, seed),
            )


def clickers(world: Replayed) -> list[UserId]:
    """Return users with a history that the evaluation does not ask for, those with the longest one first."""
    tested = {event.user_id for event in world.test}
    events = Counter(event.user_id for event in world.train if event.user_id not in tested)
    return [user for user, _ in sorted(events.items(), key=lambda pair: (-pair[1], pair[0]))]


def _reported(scene: Scene, accounted: Accounted, taught: Taught, served: Served) -> Report:
    frozen, prequential, freshness = served.frozen, served.prequential, served.freshness
    p99 = freshness.milliseconds(99)
    fallbacks = Counter(name for stop in served.tour.stops for name in stop.fallbacks)
    return Report(
        data=scene.world.data.name,
        seed=taught.seed,
        seconds_to_first_recommendation=round(served.first_after_s, 3),
        seconds_total=round(scene.stages.elapsed, 3),
        stages=scene.stages.seconds,
        accounting=msgspec.to_builtins(accounted),
        training=msgspec.to_builtins(taught),
        served=frozen.served,
        baselines=frozen.baselines,
        served_against_30d=frozen.against_30d,
        prequential=prequential,
        freshness_ms={"p50": freshness.milliseconds(50), "p99": p99},
        new_item_ms=served.tour.new_item_ms,
        fallbacks=dict(fallbacks),
        versions=versions(),
        checks=checks_of(frozen, prequential, p99, accounted.balanced),
    )


def _report_to(console: Console) -> Any:
    def report(started: Started) -> None:
        console.print(f"    {started.part}: {started.where} [dim]{started.seconds:.1f} s[/dim]", highlight=False)

    return report


def _serve_on(stack: Stack, scene: Scene, endpoints: Endpoints, console: Console) -> None:
    """Keep the API up until Ctrl-C, with three lines to try."""
    user = clickers(scene.world)[0]
    item = scene.world.train[0].item_id
    json = "-H 'content-type: application/json'"
    for line in (
        "",
        "The API stays up; Ctrl-C stops it. Try:",
        f"""curl -s {endpoints.recommender_url}/v1/recommend {json} -d '{{"user_id": "{user}", "n": 5}}'""",
        f"""curl -s {endpoints.collector_url}/v1/events {json} -d """
        f"""'{{"user_id": "{user}", "item_id": "{item}", "kind": "click"}}'""",
        f"""curl -s {endpoints.recommender_url}/v1/similar {json} -d '{{"item_id": "{item}", "n": 5}}'""",
        f"Other commands see this run with FLYWHEEL_HOME={scene.home} FLYWHEEL_NAMESPACE={scene.plan.namespace}",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        stack.watch(stop)
    finally:
        signal.signal(signal.SIGINT, before)
