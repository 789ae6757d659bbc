"""The one place that builds a SparkSession: UTC, on Iceberg, on loopback, with the project's Java and jars."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyspark.sql import SparkSession

from features.config import LakeSettings, require
from streaming.embedded.jars import postgresql_jars, s3_jars, spark_jars
from streaming.embedded.java import java_home
from streaming.namespace import Namespace

CATALOG = "lake"


def build_session(lake: LakeSettings, namespace: Namespace, cache: Path) -> SparkSession:
    """Return a session with the Iceberg catalogue `lake`, all times in UTC whatever the machine's zone is.

    `cache` is the user's cache with jars and Java. Stop the session with `.stop()`.
    """
    options = _java_options(lake, cache) | _spark_options(lake) | catalog_options(lake)
    builder = SparkSession.builder.appName(f"flywheel-{namespace}").master(lake.spark_master)
    for key, value in options.items():
        builder = builder.config(key, value)
    here = {"SPARK_LOCAL_IP": "127.0.0.1"} if _is_local(lake) else {}
    with _environment(JAVA_HOME=str(java_home(cache)), PYSPARK_PYTHON=sys.executable, **here):
        return builder.getOrCreate()


def catalog_options(lake: LakeSettings) -> dict[str, str]:
    """Return the Spark options of the Iceberg catalogue; raises PlaceMissing when its place is not known."""
    prefix = f"spark.sql.catalog.{CATALOG}"
    options = {
        prefix: "org.apache.iceberg.spark.SparkCatalog",
        f"{prefix}.warehouse": require(lake.warehouse, "lake.warehouse"),
        # A cached table would hide what another process committed; every read here asks for the current snapshot.
        f"{prefix}.cache-enabled": "false",
    }
    if lake.on_s3:
        options |= {f"{prefix}.{name}": value for name, value in _s3_options(lake).items()}
    uri = require(lake.uri, "lake.uri")
    if lake.catalog == "rest":
        return options | {f"{prefix}.type": "rest", f"{prefix}.uri": uri}
    options |= {f"{prefix}.type": "jdbc", f"{prefix}.jdbc.schema-version": "V1"}
    if lake.catalog == "sqlite":
        Path(uri).parent.mkdir(parents=True, exist_ok=True)
        return options | {f"{prefix}.uri": f"jdbc:sqlite:{uri}?journal_mode=WAL&busy_timeout=10000"}
    options[f"{prefix}.uri"] = uri
    if lake.catalog_user is not None:
        options[f"{prefix}.jdbc.user"] = lake.catalog_user
    if lake.catalog_password is not None:
        options[f"{prefix}.jdbc.password"] = lake.catalog_password.get_secret_value()
    return options


def _s3_options(lake: LakeSettings) -> dict[str, str]:
    options = {"io-impl": "org.apache.iceberg.aws.s3.S3FileIO"}
    if lake.s3_endpoint is not None:
        options |= {"s3.endpoint": lake.s3_endpoint, "s3.path-style-access": "true"}
    if lake.s3_region is not None:
        options["client.region"] = lake.s3_region
    return options


def _jars(lake: LakeSettings, cache: Path) -> list[Path]:
    """Return what these settings need, so that nobody fetches 70 MB of what is not used."""
    jars = spark_jars(cache)
    if lake.catalog == "jdbc":
        jars += postgresql_jars(cache)
    if lake.on_s3:
        jars += s3_jars(cache)
    return jars


def _java_options(lake: LakeSettings, cache: Path) -> dict[str, str]:
    jars = [str(jar) for jar in _jars(lake, cache)]
    # Room for classes and compiled code from the start: growing there cost a full collection each time.
    room = ["-XX:MetaspaceSize=256m", "-XX:ReservedCodeCacheSize=240m", "-XX:InitialCodeCacheSize=64m"]
    logging = f'"-Dlog4j2.configurationFile={Path(__file__).with_name("log4j2.properties")}"'
    flags = ["-XX:+UseSerialGC", "-Duser.timezone=UTC", *room, logging]
    # Short jobs on one machine never reach the second compiler's gains: stopping at the first one took a third off.
    local = _is_local(lake)
    return {
        "spark.jars" if not local else "spark.driver.extraClassPath": ("," if not local else ":").join(jars),
        "spark.driver.memory": lake.driver_memory,
        "spark.driver.extraJavaOptions": " ".join([*flags, "-XX:TieredStopAtLevel=1"] if local else flags),
        "spark.executor.extraJavaOptions": "-Duser.timezone=UTC",
    }


def _spark_options(lake: LakeSettings) -> dict[str, str]:
    # Executors elsewhere must reach the driver, at the address that Spark or its operator finds.
    alone = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    return (alone if _is_local(lake) else {}) | {
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(lake.shuffle_partitions),
        "spark.sql.execution.arrow.pyspark.enabled": "true",
        # From 128 keys on Spark would sort for a collecting aggregation instead of hashing.
        "spark.sql.objectHashAggregate.sortBased.fallbackThreshold": "100000",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def _is_local(lake: LakeSettings) -> bool:
    return lake.spark_master.startswith("local")


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Set variables that pyspark reads from the environment only, for as long as it starts."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
