"""The whole circle for real, on a small world: every part, and clicks that change slates."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from services.demo.report import Report
from streaming.config import KafkaSettings

SCRIPT = Path(__file__).with_name("small_circle.py")


@pytest.fixture(scope="module")
def report(broker: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """One turn of the circle; what it measured."""
    home = tmp_path_factory.mktemp("circle")
    assert broker.erasure_key is not None
    command = [
        sys.executable,
        str(SCRIPT),
        str(broker.bootstrap_servers),
        broker.erasure_key.get_secret_value(),
        str(home),
    ]
    printed = home / "printed"
    with printed.open("w") as output:
        done = subprocess.run(command, stdout=output, stderr=output, timeout=480, check=False)
    assert done.returncode == 0, printed.read_text()[-6000:]
    return msgspec.json.decode((home / "report.json").read_bytes(), type=Report)


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


def test_the_model_is_evaluated_before_anything_serves_it_and_serving_it_gives_as_good_slates(report: Report) -> None:
    offline = report.training["offline"]
    assert offline["users"] == report.served["all"].users
    assert offline["popularity"] == pytest.approx(report.baselines["popularity"]["all"].ndcg10)
    assert offline["item_knn"] == pytest.approx(report.baselines["item_knn"]["all"].ndcg10)
    assert offline["ndcg10"] == pytest.approx(report.served["all"].ndcg10, abs=0.02)


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
