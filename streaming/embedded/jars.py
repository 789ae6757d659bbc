"""The jars of the embedded broker and of Spark: fetched once from Maven Central, always checked.

`jars.sha256` names every jar by Maven coordinates (set/organisation/module/revision/file) with its SHA-256 sum, so a
machine runs exactly these bytes or nothing. Ivy, which is inside pyspark, does the fetching.
"""

import fcntl
import hashlib
import importlib.resources
import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

from streaming.embedded.java import java, trust_store_options
from streaming.errors import FlywheelError

_SETTINGS = """<ivysettings><settings defaultResolver="central"/><resolvers>
<ibiblio name="central" m2compatible="true" usepoms="false"/></resolvers></ivysettings>"""
_RETRIEVE = "[organisation]/[module]/[revision]/[artifact]-[revision].[ext]"


class CorruptJar(FlywheelError):
    """A jar is not the one that this release was built with."""


class JarsUnavailable(FlywheelError):
    """Jars that are not in the cache could not be fetched."""


@dataclass(frozen=True)
class LockedJar:
    """One jar: `path` inside the cache, organisation/module/revision/file, and its SHA-256 sum in hex."""

    path: str
    sha256: str

    def dependency(self) -> str:
        """Return the jar as a dependency of an Ivy module."""
        organisation, module, revision, _ = self.path.split("/")
        return (
            f"<dependency org={quoteattr(organisation)} name={quoteattr(module)} rev={quoteattr(revision)} "
            f'conf="default->default" transitive="false">'
            f'<artifact name={quoteattr(module)} type="jar" ext="jar"/></dependency>'
        )


def broker_jars(cache: Path) -> list[Path]:
    """Return the class path of the Kafka broker, fetched into `cache` where missing.

    Raises CorruptJar when a jar has another SHA-256 sum than this release expects, JarsUnavailable when fetching fails.
    """
    return _resolve("broker", cache)


def spark_jars(cache: Path) -> list[Path]:
    """Return the jars that Spark needs beside its own: Kafka connector, Iceberg, SQLite; fetched where missing.

    Raises CorruptJar when a jar has another SHA-256 sum than this release expects, JarsUnavailable when fetching fails.
    """
    return _resolve("spark", cache)


def postgresql_jars(cache: Path) -> list[Path]:
    """Return what Spark needs for a catalogue on PostgreSQL; raises as `spark_jars` does."""
    return _resolve("postgresql", cache)


def s3_jars(cache: Path) -> list[Path]:
    """Return what Spark needs for a warehouse on S3; raises as `spark_jars` does."""
    return _resolve("s3", cache)


def locked_jars(name: str) -> list[LockedJar]:
    """Return the jars of the set `name` ("broker", "spark", "postgresql" or "s3") as the release locks them."""
    text = (importlib.resources.files("streaming.embedded") / "jars.sha256").read_text()
    lines = (line.split() for line in text.splitlines())
    return [LockedJar(path.removeprefix(f"{name}/"), sha) for sha, path in lines if path.startswith(f"{name}/")]


def _resolve(name: str, cache: Path) -> list[Path]:
    root = cache / "jars" / name
    jars = locked_jars(name)
    if _missing(jars, root):  # a cache that is complete may lie on a disk that cannot be written
        with _locked(root):
            if missing := _missing(jars, root):
                _fetch(missing, root, cache)
    for jar in jars:
        _check(jar, root)
    return [root / jar.path for jar in jars]


def _missing(jars: list[LockedJar], root: Path) -> list[LockedJar]:
    return [jar for jar in jars if not (root / jar.path).exists()]


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jars: list[LockedJar], root: Path, cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=root) as folder:
        work = Path(folder)
        _run_ivy(jars, work, cache)
        for jar in jars:
            if not (work / jar.path).exists():
                raise JarsUnavailable(f"Maven Central has no {jar.path}: check the network and start again")
            _check(jar, work)
        for jar in jars:
            target = root / jar.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(work / jar.path, target)


def _run_ivy(jars: list[LockedJar], work: Path, cache: Path) -> None:
    dependencies = "".join(jar.dependency() for jar in jars)
    (work / "ivy.xml").write_text(
        '<ivy-module version="2.0"><info organisation="flywheel" module="jars"/><configurations>'
        f'<conf name="default"/></configurations><dependencies>{dependencies}</dependencies></ivy-module>'
    )
    (work / "settings.xml").write_text(_SETTINGS)
    command = [str(java()), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", *trust_store_options(cache, os.environ)]
    command += ["-cp", str(_ivy_jar()), "org.apache.ivy.Main", "-warn", "-settings", str(work / "settings.xml")]
    command += ["-ivy", str(work / "ivy.xml"), "-cache", str(work / "ivy"), "-confs", "default", "-types", "jar"]
    command += ["-retrieve", f"{work}/{_RETRIEVE}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reasons = [line.strip() for line in (done.stdout + done.stderr).splitlines() if _is_reason(line)]
        reason = "; ".join(reasons[:2]) or "no reason given"
        raise JarsUnavailable(
            f"{len(jars)} jars could not be fetched from Maven Central ({reason}): "
            "check the network; for a proxy set JAVA_TOOL_OPTIONS=-Dhttps.proxyHost=HOST -Dhttps.proxyPort=PORT"
        )


def _is_reason(line: str) -> bool:
    return any(word in line for word in ("Exception", "Error", "timed out", "UNRESOLVED", "not found"))


def _ivy_jar() -> Path:
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise JarsUnavailable("the pyspark package, whose Ivy fetches the jars, is not installed: run `uv sync`")
    return next((Path(spec.origin).parent / "jars").glob("ivy-*.jar"))


def _check(jar: LockedJar, root: Path) -> None:
    path = root / jar.path
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise CorruptJar(
            f"{path} has SHA-256 {found[:12]}… and not {jar.sha256[:12]}…: it was damaged or replaced; "
            "delete it and start again"
        )
