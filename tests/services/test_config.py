import os
import subprocess
from pathlib import Path

import pytest

from services.config import ConfigurationError, load_settings, variables
from services.endpoints import Endpoints, read_endpoints, write_endpoints


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, _ in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))


def test_a_variable_reaches_its_section(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_NAMESPACE", "shop")
    monkeypatch.setenv("FLYWHEEL_KAFKA__PARTITIONS", "7")
    settings = load_settings()
    assert settings.topics.interactions == "shop.interactions"
    assert settings.kafka.partitions == 7


@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("FLYWHEEL_KAFKA__PARTITION", "7", "did you mean FLYWHEEL_KAFKA__PARTITIONS"),
        ("FLYWHEEL_KAFAK__PARTITIONS", "7", "did you mean FLYWHEEL_KAFKA__PARTITIONS"),
        ("FLYWHEEL_NAMESPAC", "shop", "did you mean FLYWHEEL_NAMESPACE"),
        ("FLYWHEEL_KAFKA__PARTITIONS", "many", "FLYWHEEL_KAFKA__PARTITIONS: "),
        ("FLYWHEEL_KAFKA__PARTITIONS", "0", "FLYWHEEL_KAFKA__PARTITIONS: "),
        ("FLYWHEEL_NAMESPACE", "Shop_1", "lower-case letter"),
        ("FLYWHEEL_NAMESPACE", "s", "lower-case letter"),
    ],
)
def test_a_bad_variable_stops_start_up_with_a_sentence(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, told: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=told):
        load_settings()


def test_addresses_come_from_the_stack_that_runs_on_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_endpoints(
        tmp_path, Endpoints(pid=os.getpid(), bootstrap_servers="127.0.0.1:1", redis_url="redis://127.0.0.1:2")
    )
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "127.0.0.1:1"
    assert settings.store.redis_url is not None
    monkeypatch.setenv("FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS", "kafka:9092")
    assert load_settings().kafka.bootstrap_servers == "kafka:9092"


def test_a_stack_whose_process_is_gone_has_no_addresses(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])  # noqa: S607
    child.wait()
    write_endpoints(tmp_path, Endpoints(pid=child.pid, bootstrap_servers="a", redis_url="b"))
    assert read_endpoints(tmp_path) is None


def test_a_secret_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYWHEEL_KAFKA__SASL_PASSWORD", "hunter2")
    assert "hunter2" not in repr(load_settings())
