"""Every command in two namespaces with equal ids on one broker, one store and one catalogue: each sees its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer.main

from features.config import StoreSettings, store_url
from services.cli import app
from streaming.config import KafkaSettings

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]

SCRIPT = Path(__file__).with_name("tenant_commands.py")
USERS, ITEMS, ERASED = 30, 40, "user-7"  # as there
ELSEWHERE = {
    "demo": "test_circle.py turns the circle in a namespace of its own",
    "up": "starts what tenants share",
    "serve": "a service is of one namespace, and so are its keys: tests/services/test_front.py",
    "replay": "computes what a recommender has answered: tests/services/test_slate_replay.py",
    "tune": "reads and trains as `train` does",
    "receipt": "test_erasure.py verifies one with the keys of both namespaces",
}
"""The commands that do not run here, and why."""


@dataclass(frozen=True)
class Tenant:
    """A namespace, how many events each of its users has, and what each command said, each time."""

    name: str
    of_user: int
    said: dict[str, list[Any]]
    exported: list[dict[str, Any]]

    @property
    def events(self) -> int:
        return USERS * self.of_user


@pytest.fixture(scope="module")
def home(broker: KafkaSettings, valkey: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of both after all commands have run."""
    home = tmp_path_factory.mktemp("tenants")
    assert broker.erasure_key is not None
    servers = [str(broker.bootstrap_servers), broker.erasure_key.get_secret_value(), store_url(valkey)]
    printed = home / "printed"
    with printed.open("w") as output:
        command = [sys.executable, str(SCRIPT), *servers, str(home)]
        environ = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}  # what all tests share
        done = subprocess.run(command, env=environ, stdout=output, stderr=output, timeout=600, check=False)
    assert done.returncode == 0, printed.read_text()[-6000:]
    return home


@pytest.fixture(scope="module")
def report(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "tenants.json").read_text())
    return found


@pytest.fixture(scope="module")
def tenants(home: Path, report: dict[str, Any]) -> list[Tenant]:
    return [
        Tenant(name, **told, exported=lines(home / f"{told['of_user']}.out.jsonl"))
        for name, told in report["tenants"].items()
    ]


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def chosen(rows: list[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    return {row["event_id"]: (row["user_id"], row["item_id"]) for row in rows if "kind" in row}


def test_every_command_has_run_in_both_or_is_run_elsewhere(tenants: list[Tenant]) -> None:
    commands = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert ELSEWHERE.keys() <= commands
    for tenant in tenants:
        assert {name.split()[0] for name in tenant.said} == commands - ELSEWHERE.keys()


def test_each_creates_publishes_and_lands_its_own(tenants: list[Tenant]) -> None:
    for tenant in tenants:
        [created] = tenant.said["topics"]
        assert created
        assert all(one["topic"].startswith(f"{tenant.name}.") for one in created)
        [[imported]] = tenant.said["import"]
        assert (imported["events"], imported["bad"]) == (ITEMS + tenant.events, 0)
        landed = [batch for batches in tenant.said["land --available-now"] for batch in batches]
        assert {batch["topic"].split(".")[0] for batch in landed} == {tenant.name}
        first = tenant.said["land --available-now"][0]
        assert sum(batch["inserted"] for batch in first) == ITEMS + tenant.events + 1
        assert sum(batch["dead"] for batch in first) == tenant.of_user
        for audit in tenant.said["audit"]:
            assert {part["topic"].split(".")[0] for part in audit["partitions"]} == {tenant.name}
            assert [part["problems"] for part in audit["partitions"] if part["problems"]] == []


def test_equal_ids_stay_apart(home: Path, tenants: list[Tenant]) -> None:
    one, other = (chosen(tenant.exported) for tenant in tenants)
    assert one.keys() > other.keys()
    assert any(one[event_id] != other[event_id] for event_id in other)
    for tenant in tenants:
        assert chosen(tenant.exported) == chosen(lines(home / f"{tenant.of_user}.jsonl"))
        [[explained]] = tenant.said["explain"]
        assert explained["variant"] == tenant.name


def test_what_was_put_aside_what_was_learnt_and_what_is_rebuilt_is_ones_own(tenants: list[Tenant]) -> None:
    versions = []
    for tenant in tenants:
        [letters] = tenant.said["dlq list"]
        assert [one["topic"] for one in letters] == [f"{tenant.name}.interactions"] * tenant.of_user
        [[trained]], [models], [[back]] = (tenant.said[name] for name in ("train", "models", "rollback"))
        assert [one["model_version"] for one in models] == [trained["version"]]
        assert (back["number"], back["reason"]) == (3, f"of {tenant.name}")
        versions.append(trained["version"])
        [online], [catalogue] = tenant.said["rebuild online"], tenant.said["rebuild catalogue"]
        assert next(one["rows"] for one in online if one["part"] == "interactions read") == tenant.events
        assert [one["rows"] for one in catalogue] == [0]  # the topic has them all
        [[backup]] = tenant.said["backup"]
        assert (backup["namespace"], backup["models"]) == (tenant.name, 1)
    assert len(set(versions)) == 2


def test_an_erasure_in_one_changes_no_byte_of_the_other_and_a_restore_brings_back_what_that_had(
    home: Path, report: dict[str, Any], tenants: list[Tenant]
) -> None:
    assert report["changed_by_the_erasure_of_the_other"] == []
    one, other = tenants
    [gone], [found] = one.said["erase --verify"], other.said["erase --verify"]
    assert "FOUND" not in {each["verdict"] for each in gone}
    assert {each["store"] for each in found if each["verdict"] == "FOUND"} >= {"lake", "online store"}
    one_back, other_back = (chosen(lines(home / f"{tenant.of_user}.restored.jsonl")) for tenant in tenants)
    assert other_back == chosen(other.exported)
    assert one_back == {key: what for key, what in chosen(one.exported).items() if what[0] != ERASED}
