import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr

from features.config import LakeSettings, StoreSettings, store_url
from features.valkey import start_valkey
from models.config import ModelSettings
from services.config import Settings
from services.doctor import Check, examine
from services.endpoints import Endpoints, write_endpoints
from services.settings_serving import ServingSettings
from streaming.config import KafkaSettings
from streaming.namespace import Namespace
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics


@pytest.fixture
def settings(tmp_path: Path, namespace: Namespace) -> Settings:
    return Settings(home=tmp_path, namespace=namespace)


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _examined(settings: Settings, **sections: object) -> dict[str, Check]:
    return {check.name: check for check in examine(settings.model_copy(update=sections), os.environ)}


def test_a_fresh_machine_passes(settings: Settings) -> None:
    checks = _examined(settings)
    assert [check for check in checks.values() if not check.passed] == []
    assert list(checks) == [
        "home", "access", "kafka", "store", "java and jars", "spark", "lake catalogue", "lake files", "model registry",
    ]  # fmt: skip
    assert "51 jars" in checks["java and jars"].found


def test_missing_topics_are_named_with_the_command_that_makes_them(settings: Settings, broker: KafkaSettings) -> None:
    check = _examined(settings, kafka=broker)["kafka topics"]
    assert not check.passed
    assert f"{settings.namespace}.interactions" in check.found
    assert check.fix == "run `flywheel topics`"


def test_another_partition_count_than_configured_is_named(settings: Settings, broker: KafkaSettings) -> None:
    ensure_topics(broker, settings.topics)
    check = _examined(settings, kafka=broker.model_copy(update={"partitions": 9}))["kafka topics"]
    assert not check.passed
    assert f"has {broker.partitions} partitions, kafka.partitions is 9" in check.found


def test_one_copy_of_a_record_is_not_durable_on_a_cluster(settings: Settings, broker: KafkaSettings) -> None:
    ensure_topics(broker, settings.topics)
    checks = _examined(settings, kafka=broker)
    assert checks["kafka connection"].passed
    assert checks["kafka version"].passed
    assert checks["kafka permissions"].passed
    assert not checks["kafka durability"].passed
    assert "keeps 1 copies" in checks["kafka durability"].found
    assert "REPLICATION_FACTOR=3" in checks["kafka durability"].fix


def test_the_embedded_broker_is_not_asked_for_copies(settings: Settings, broker: KafkaSettings) -> None:
    ensure_topics(broker, Topics(Namespace(settings.namespace)))
    running = Endpoints(pid=os.getpid(), bootstrap_servers=str(broker.bootstrap_servers), redis_url="redis://unused")
    write_endpoints(settings.home, running)
    checks = _examined(settings, kafka=broker)
    assert "kafka durability" not in checks
    assert all(check.passed for check in checks.values())


def test_servers_that_are_down_are_reported_each_once(settings: Settings, closed_port: int) -> None:
    address = f"127.0.0.1:{closed_port}"
    checks = _examined(
        settings,
        kafka=KafkaSettings(bootstrap_servers=address),
        store=StoreSettings(redis_url=SecretStr(f"redis://{address}")),
        lake=LakeSettings(spark_master=f"spark://{address}"),
    )
    failed = {name: check for name, check in checks.items() if not check.passed}
    assert set(failed) == {"kafka connection", "store", "spark", "lake catalogue"}
    assert "FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS" in failed["kafka connection"].fix
    assert "FLYWHEEL_STORE__REDIS_URL" in failed["store"].fix
    assert "FLYWHEEL_LAKE__SPARK_MASTER" in failed["spark"].fix
    assert "SQLite" in failed["lake catalogue"].found


def test_a_store_that_would_evict_users_is_refused(settings: Settings) -> None:
    running = start_valkey(settings.home, StoreSettings(), os.environ)
    try:
        assert _examined(settings, store=running.settings)["store"].found.startswith("valkey 9.1")
        with redis.Redis.from_url(store_url(running.settings)) as client:
            client.config_set("maxmemory", "100mb")
            client.config_set("maxmemory-policy", "allkeys-lru")
        check = _examined(settings, store=running.settings)["store"]
        assert (check.passed, check.fix) == (False, "set maxmemory-policy noeviction")
    finally:
        running.stop()


def test_places_that_cannot_be_written_are_named(settings: Settings) -> None:
    (settings.home / "file").touch()
    checks = _examined(
        settings,
        lake=LakeSettings(warehouse=(settings.home / "file" / "lake").as_uri()),
        model=ModelSettings(artifacts=str(settings.home / "file" / "models")),
    )
    assert not checks["lake files"].passed
    assert "FLYWHEEL_LAKE__WAREHOUSE" in checks["lake files"].fix
    assert not checks["model registry"].passed
    assert "FLYWHEEL_MODEL__ARTIFACTS" in checks["model registry"].fix


def test_services_open_to_others_need_keys(settings: Settings) -> None:
    check = _examined(settings, serving=ServingSettings(host="192.0.2.1"))["access"]
    assert not check.passed
    assert "FLYWHEEL_SERVING__API_KEYS_FILE" in check.found


def test_a_service_that_does_not_answer_is_named(settings: Settings, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    write_endpoints(
        settings.home,
        Endpoints(pid=os.getpid(), bootstrap_servers="a:1", redis_url="redis://unused", recommender_url=url),
    )
    check = _examined(settings)["recommender"]
    assert not check.passed
    assert "recommender.log" in check.fix


def test_nothing_is_left_behind(settings: Settings) -> None:
    _examined(settings)
    left = [path.name for path in settings.home.rglob("*") if path.is_file()]
    assert left == []


def test_the_command_prints_json_and_exits_1_when_something_is_wrong(tmp_path: Path, closed_port: int) -> None:
    environ = {
        **os.environ,
        "FLYWHEEL_HOME": str(tmp_path),
        "FLYWHEEL_STORE__REDIS_URL": f"redis://127.0.0.1:{closed_port}",
    }
    argv = [sys.executable, "-m", "services.cli", "doctor", "--json"]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert [name for name, check in checks.items() if not check["passed"]] == ["store"]
