"""The whole circle for real, on a small world: every part, and clicks that change slates."""

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest
from rich.console import Console

from models.config import ModelSettings, RankingSettings, RetrievalSettings
from services.config import Settings
from services.demo.plan import Plan
from services.demo.report import Report
from services.demo.run import Scene, turn
from services.demo.stages import Stages
from services.demo.world import Replayed
from services.stack import Stack
from streaming.config import KafkaSettings
from streaming.namespace import Namespace
from streaming.replay import Shift
from streaming.synthetic import World, WorldSpec

WORLD = WorldSpec(users=120, items=80, categories=8, days=60, mean_events=25, seed=3)


@pytest.fixture(scope="module")
def report(broker: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Report]:
    """One turn of the circle; what it measured."""
    print("seed of the world", WORLD.seed)  # noqa: T201
    home = tmp_path_factory.mktemp("circle")
    world = World(WORLD)
    train, test = world.data.split(0.9)
    replayed = Replayed(world.data, train, test, world.probabilities)
    now = time.time_ns() // 1_000_000
    quick = ModelSettings(
        retrieval=RetrievalSettings(epochs=1, refit_epochs=1, dim=16), ranking=RankingSettings(epochs=1)
    )
    namespace = Namespace(f"circle{os.getpid()}")
    settings = Settings(home=home, namespace=namespace, kafka=broker, model=quick)
    scene = Scene(
        replayed,
        Shift.before(replayed.cut, now),
        Plan(namespace=namespace, data="synthetic", now=now),
        home,
        Stages(Console(stderr=True)),
    )
    with Stack(settings, os.environ, lambda _: None) as stack, ThreadPoolExecutor(1) as pool:
        measured, _ = turn(scene, stack, os.environ, pool)
        yield measured


def test_every_published_event_is_accounted_for(report: Report) -> None:
    accounting = report.accounting
    assert accounting["balanced"]
    assert accounting["published"] == {topic: count for topic, count in accounting["kafka"].items() if count}
    inserted = {topic: counts["inserted"] for topic, counts in accounting["lake"].items() if counts["inserted"]}
    assert inserted == accounting["published"]
    assert set(accounting["dead_letters"].values()) == {0}


def test_a_click_changes_the_next_slate_and_quickly(report: Report) -> None:
    assert 0 < report.freshness_ms["p50"] <= report.freshness_ms["p99"] < 10_000


def test_nothing_seen_is_served_again(report: Report) -> None:
    assert report.served["all"].users > 0
    assert report.served["all"].seen_rate == 0.0


def test_what_is_served_beats_the_popular_list_in_a_world_of_tastes_and_stays_below_the_best(report: Report) -> None:
    assert report.prequential.best_possible_ndcg10 is not None
    assert report.prequential.baseline_ndcg10 < report.prequential.ndcg10 < report.prequential.best_possible_ndcg10


def test_the_first_model_is_promoted_with_a_reason_that_is_kept(report: Report) -> None:
    assert report.training["gate"] == "no champion"
    assert report.training["reason"]


def test_the_report_says_everything_that_a_run_must_say(report: Report) -> None:
    written = msgspec.to_builtins(report)
    assert set(written) >= {
        "seconds_to_first_recommendation",
        "seconds_total",
        "stages",
        "fallbacks",
        "versions",
        "seed",
    }
    assert set(written["served"]) == {"warm", "new", "all"}
    quality = {"hr10", "ndcg10", "recall50", "coverage10", "seen_rate"}
    for parts in (written["served"], *written["baselines"].values()):
        assert all(set(part) >= quality for part in parts.values())
    live = {"users", "groups", "ndcg10", "baseline_ndcg10", "difference", "difference_low", "difference_high"}
    assert set(written["prequential"]) >= live
    assert set(written["freshness_ms"]) == {"p50", "p99"}
