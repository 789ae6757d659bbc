import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streaming.embedded.jars import CorruptJar, JarsUnavailable, broker_jars, locked_jars, spark_jars


@pytest.fixture
def own_cache(cache: Path, tmp_path: Path) -> Path:
    """A cache of this test alone, filled with links to the shared one."""
    broker_jars(cache)
    shutil.copytree(cache / "jars" / "broker", tmp_path / "jars" / "broker", copy_function=os.link)
    return tmp_path


@pytest.mark.parametrize("name", ["broker", "spark", "postgresql", "s3"])
def test_every_jar_is_locked_by_coordinates_and_sum(name: str) -> None:
    for jar in locked_jars(name):
        organisation, module, revision, file = jar.path.split("/")
        assert file == f"{module}-{revision}.jar"
        assert "." in organisation or organisation.startswith("commons-")
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256)


def test_the_versions_are_the_ones_that_work_together(cache: Path) -> None:
    names = {jar.name for jar in [*broker_jars(cache), *spark_jars(cache)]}
    assert names >= {
        "kafka_2.13-4.4.0.jar",
        "spark-sql-kafka-0-10_2.13-4.1.1.jar",
        "iceberg-spark-runtime-4.1_2.13-1.12.0.jar",
        "sqlite-jdbc-3.50.3.0.jar",
    }


def test_a_corrupt_jar_is_refused_by_name(own_cache: Path) -> None:
    victim = next((own_cache / "jars" / "broker").glob("org.slf4j/**/*.jar"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.unlink()
    victim.write_bytes(content)
    with pytest.raises(CorruptJar, match=rf"{re.escape(victim.name)} has SHA-256 .* delete it and start again"):
        broker_jars(own_cache)


def test_two_processes_fetch_a_missing_jar_together(own_cache: Path) -> None:
    victim = next((own_cache / "jars" / "broker").glob("org.jspecify/**/*.jar"))
    victim.unlink()
    code = (
        "import pathlib, sys; from streaming.embedded.jars import broker_jars; broker_jars(pathlib.Path(sys.argv[1]))"
    )
    argv = [sys.executable, "-c", code, str(own_cache)]
    both = [subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [(process.communicate()[1], process.returncode) for process in both]
    assert results == [("", 0), ("", 0)]
    assert victim.exists()
    leftovers = [path.name for path in (own_cache / "jars" / "broker").iterdir() if path.name.startswith("tmp")]
    assert leftovers == []


def test_without_a_network_a_missing_jar_is_one_clear_sentence(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=1")
    next((own_cache / "jars" / "broker").glob("org.jspecify/**/*.jar")).unlink()
    with pytest.raises(JarsUnavailable, match=r"1 jars could not be fetched from Maven Central .*: check the network"):
        broker_jars(own_cache)


def test_a_complete_cache_is_only_read(own_cache: Path) -> None:
    """An image has its jars on a disk that cannot be written."""
    root = own_cache / "jars" / "broker"
    (root / ".lock").unlink(missing_ok=True)
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    broker_jars(own_cache)
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before
