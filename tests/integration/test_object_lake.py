"""The lake as it is in production, its catalogue in PostgreSQL and its files in an object store, used for real."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from moto.server import ThreadedMotoServer
from postgres import PASSWORD, USER, postgres

from features.config import StoreSettings, store_url
from streaming.config import KafkaSettings

pytestmark = pytest.mark.timeout(540)  # as long as a machine may take that does much else

SCRIPT = Path(__file__).with_name("small_object_lake.py")
BUCKET = "landed"  # moto keeps one set of buckets for all servers of a process


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    """The address of an object store on loopback."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it would tell of every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def seen(
    broker: KafkaSettings, valkey: StoreSettings, object_store: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a process saw that landed, read, deleted and maintained there."""
    import boto3  # noqa: PLC0415 - it comes with the object store

    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}
    named = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "eu-central-1"}
    boto3.client("s3", endpoint_url=object_store, **named).create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    home = tmp_path_factory.mktemp("home")
    with postgres() as catalogue, (home / "printed").open("w") as output:
        variables = {
            "FLYWHEEL_HOME": str(home),
            "FLYWHEEL_NAMESPACE": f"objects{os.getpid()}",
            "FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS": str(broker.bootstrap_servers),
            "FLYWHEEL_KAFKA__ERASURE_KEY": broker.erasure_key.get_secret_value() if broker.erasure_key else "",
            "FLYWHEEL_STORE__REDIS_URL": store_url(valkey),
            "FLYWHEEL_LAKE__CATALOG": "jdbc",
            "FLYWHEEL_LAKE__URI": catalogue.jdbc_url,
            "FLYWHEEL_LAKE__CATALOG_USER": USER,
            "FLYWHEEL_LAKE__CATALOG_PASSWORD": PASSWORD,
            "FLYWHEEL_LAKE__WAREHOUSE": f"s3://{BUCKET}/warehouse",
            "FLYWHEEL_LAKE__S3_ENDPOINT": object_store,
            "FLYWHEEL_LAKE__S3_REGION": "eu-central-1",
        }
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(home / "seen.json")],
            env={**os.environ, **keys, **variables},
            stdout=output,
            stderr=output,
            timeout=480,
            check=False,
        )
    assert done.returncode == 0, (home / "printed").read_text()[-6000:]
    return msgspec.json.decode((home / "seen.json").read_bytes())


def ids(*ranges: range) -> list[str]:
    return sorted(f"e{number}" for numbers in ranges for number in numbers)


def test_every_event_lands_once_from_the_start_from_a_checkpoint_and_without_one(seen: dict[str, Any]) -> None:
    assert (seen["landed"], seen["landed_from_checkpoint"], seen["landed_without_checkpoint"]) == (40, 20, 20)
    assert seen["ids"] == ids(range(80))
    assert [part["problems"] for part in seen["problems"] if part["problems"]] == []


def test_an_earlier_snapshot_is_read_without_spark(seen: dict[str, Any]) -> None:
    assert set(seen["first_snapshot"]) <= set(ids(range(40)))
    assert seen["first_snapshot"] == ids(range(40))


def test_landing_deletes_features_and_maintenance_at_once_lose_nothing_and_bring_nobody_back(
    seen: dict[str, Any],
) -> None:
    assert seen["failures"] == []
    landed = ids(range(80), range(1000, 1020), range(1100, 1120))
    kept = [event for event in landed if int(event[1:]) % 4 in (2, 3)]
    assert seen["after"] == kept
    assert seen["maintained"] == kept


def test_maintenance_leaves_fewer_files_than_it_would_compact_and_one_snapshot(seen: dict[str, Any]) -> None:
    assert seen["files"] < 5  # Iceberg compacts from five on
    assert seen["snapshots"] == 1


def test_an_erased_user_is_gone_from_catalogue_and_object_store(seen: dict[str, Any]) -> None:
    landed = ids(range(80), range(1000, 1020), range(1100, 1120))
    of_the_user = [event for event in landed if int(event[1:]) % 4 == 2]
    assert seen["receipt"]["lake"]["interactions"] == len(of_the_user)
    assert seen["after_erasure"] == [event for event in landed if int(event[1:]) % 4 == 3]
    assert seen["searched_before"]["lake"] == "FOUND"
    assert seen["searched"]["lake"] == "gone"
    assert "FOUND" not in seen["searched"].values()


def test_doctor_finds_the_catalogue_and_the_files_in_order(seen: dict[str, Any]) -> None:
    assert {check["name"]: check["passed"] for check in seen["doctor"]} == {
        "java and jars": True,
        "spark": True,
        "lake catalogue": True,
        "lake files": True,
    }
