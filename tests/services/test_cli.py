"""The command line: bad use ends with one sentence and an exit code that means something."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import typer.main
from environ import without_settings
from small_lake import write_lake

from services.cli import app


def run(*arguments: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = without_settings()
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env={**environ, "FLYWHEEL_HOME": str(home), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """What was said on standard error, which must be one line and no traceback."""
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("flywheel: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def command_names() -> list[str]:
    return list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", command_names())
def test_every_command_refuses_an_unknown_option(name: str, tmp_path: Path) -> None:
    done = run(name, "--no-such-option", home=tmp_path)
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_topic_that_has_no_letters_is_named_with_those_that_can(tmp_path: Path) -> None:
    done = run("dlq", "list", "--topic", "clicks", home=tmp_path)
    assert done.returncode == 2
    assert "flywheel.interactions" in sentence(done)


def test_training_takes_where_to_start_from_and_nothing_else(tmp_path: Path) -> None:
    done = run("train", "--from", "yesterday", home=tmp_path)
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("yesterday", "auto", "champion", "scratch"))


def test_an_audit_takes_a_time_or_what_should_have_landed_and_not_both(tmp_path: Path) -> None:
    done = run("audit", "--settled", "--until", "2026-01-01T00:00:00Z", home=tmp_path)
    assert done.returncode == 2
    assert all(word in done.stderr for word in ("--until", "--settled", "leave one"))


def test_an_unknown_command_is_wrong_use(tmp_path: Path) -> None:
    assert run("fly", home=tmp_path).returncode == 2


def test_a_misspelt_setting_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    done = run("topics", home=tmp_path, FLYWHEEL_KAFKA__PARTITION="3")
    assert done.returncode == 2
    assert "did you mean FLYWHEEL_KAFKA__PARTITIONS" in sentence(done)


def test_a_command_without_a_running_stack_says_how_to_start_one(tmp_path: Path) -> None:
    done = run("topics", home=tmp_path)
    assert done.returncode == 2
    assert "start `flywheel up`" in sentence(done)


def test_a_broker_that_is_down_is_a_sentence(tmp_path: Path, free_tcp_port: int) -> None:
    done = run("topics", home=tmp_path, FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS=f"127.0.0.1:{free_tcp_port}")
    assert done.returncode == 1
    assert f"127.0.0.1:{free_tcp_port}" in sentence(done)


@pytest.mark.parametrize(
    ("time", "told"), [("yesterday", "is no time"), ("2026-01-31T12:00:00", "has no zone"), ("", "is no time")]
)
def test_a_time_must_be_exact(time: str, told: str, tmp_path: Path) -> None:
    done = run("train", "--until", time, home=tmp_path)
    assert done.returncode == 2
    assert told in sentence(done)


@pytest.mark.parametrize("command", ["train", "tune"])
def test_training_without_a_lake_says_what_to_do_first(command: str, tmp_path: Path) -> None:
    done = run(command, home=tmp_path)
    assert done.returncode == 1
    assert "flywheel land" in sentence(done)


def test_training_until_a_time_to_come_is_refused(tmp_path: Path) -> None:
    done = run("train", "--until", "2999-01-01T00:00:00Z", home=tmp_path)
    assert done.returncode == 2
    assert "'2999-01-01T00:00:00Z' is ahead of our clock" in done.stderr


def test_a_model_that_does_not_exist_cannot_be_promoted_or_evaluated(tmp_path: Path) -> None:
    for command in (["promote", "m 1/../x"], ["evaluate", "m1", "--since", "2026-01-31T12:00:00Z"]):
        done = run(*command, home=tmp_path)
        assert done.returncode == 1
        assert "flywheel models" in sentence(done) or "flywheel land" in sentence(done)


def test_promoting_the_newest_model_where_there_is_none_changes_nothing_and_is_no_failure(tmp_path: Path) -> None:
    done = run("promote", "--newest", "--json", home=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])
    assert "No model is younger" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["m1", "--newest"]])
def test_promote_wants_a_version_or_the_newest_and_not_both(arguments: list[str], tmp_path: Path) -> None:
    done = run("promote", *arguments, home=tmp_path)
    assert done.returncode == 2
    assert "--newest" in done.stderr


def test_rolling_back_without_a_champion_is_a_sentence(tmp_path: Path) -> None:
    done = run("rollback", "--reason", "worse", home=tmp_path)
    assert done.returncode == 1
    assert "no predecessor" in sentence(done)


def test_an_empty_registry_is_an_empty_list(tmp_path: Path) -> None:
    done = run("models", "--json", home=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_serving_beyond_this_machine_needs_keys(tmp_path: Path) -> None:
    done = run("serve", "collector", home=tmp_path, FLYWHEEL_SERVING__HOST="0.0.0.0")  # noqa: S104
    assert done.returncode == 2
    assert "FLYWHEEL_SERVING__API_KEYS_FILE" in sentence(done)


@pytest.mark.parametrize(
    "arguments", [[], ["u", "--pending"], ["u", "--again"], ["--again", "--pending"], ["--again", "--verify"]]
)
def test_erase_wants_one_user_or_those_of_one_kind(arguments: list[str], tmp_path: Path) -> None:
    done = run("erase", *arguments, home=tmp_path)
    assert done.returncode == 2
    assert "`flywheel erase USER`, `erase --verify USER`, `erase --pending` or `erase --again`" in sentence(done)


def test_a_key_is_printed_once_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys = {"FLYWHEEL_SERVING__API_KEYS_FILE": str(file)}
    made = [run("add-key", name, "--scope", "write", home=tmp_path, **keys) for name in ("shop", "app")]
    assert [done.returncode for done in made] == [0, 0]
    kept = file.read_text()
    assert all(done.stdout.strip() not in kept for done in made)
    assert [entry["name"] for entry in json.loads(kept)["keys"]] == ["shop", "app"]


def test_a_key_without_a_file_to_keep_it_is_refused(tmp_path: Path) -> None:
    done = run("add-key", "shop", "--scope", "write", home=tmp_path)
    assert done.returncode == 2
    assert "FLYWHEEL_SERVING__API_KEYS_FILE" in sentence(done)


@pytest.mark.parametrize(
    "command", [["skew"], ["explain", "0" * 32], ["rebuild", "online"], ["rebuild", "catalogue"], ["backup", "there"]]
)
def test_without_a_lake_the_sentence_says_how_to_have_one(command: list[str], tmp_path: Path) -> None:
    done = run(*command, home=tmp_path)
    assert done.returncode == 1
    assert "run `flywheel land` first" in sentence(done)


def test_a_slate_that_has_landed_is_shown_with_what_its_impression_holds(tmp_path: Path) -> None:
    moment = pa.array([datetime(2026, 1, 2, 3, 4, 5, 678_000, UTC)], pa.timestamp("us", "UTC"))
    shown = {"item_id": "i9", "position": 0, "score": 0.25, "propensity": 0.5, "source": "new", "rules": ["pin"]}
    landed = {
        "event_id": ["it's"],
        "happened_at": moment,
        "received_at": moment,
        "producer": ["recommender"],
        "user_id": ["u1"],
        "surface": ["home"],
        "variant": ["champion"],
        "model_version": ["m-1"],
        "slate": [[shown]],
        "seed": [7],
        "user_history": [["i1", "i2"]],
        "user_features": ['{"interactions_total":2.0,"context.page":"home"}'],
        "policy": ["explored"],
    }
    write_lake(tmp_path, "flywheel", {"impressions": pa.table(landed)})
    done = run("explain", "it's", "--json", home=tmp_path)
    assert done.returncode == 0, done.stderr
    [found] = json.loads(done.stdout)
    empty = {"fixed": False, "drivers": [], "task_scores": {}, "features": {}}
    assert found["items"] == [shown | empty]
    assert (found["user_id"], found["policy"], found["shown_at"]) == ("u1", "explored", 1_767_323_045_678)
    assert found["history"] == ["i1", "i2"]
    assert (found["user_features"], found["context"]) == ({"interactions_total": 2.0}, {"page": "home"})
    assert "m-1" in found["notes"][0]
    missing = run("explain", "' OR 1=1", home=tmp_path)
    assert missing.returncode == 1
    assert "is in the lake" in sentence(missing)
