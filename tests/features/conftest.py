"""One Spark session and one lake for all tests of the package; every test has a namespace of its own."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from features.config import LakeSettings, StoreSettings
from features.lake import ensure_tables
from features.spark import build_session
from streaming.config import KafkaSettings
from streaming.ledger import LedgerReader
from streaming.namespace import Namespace, parse_namespace
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

ZONE = "Pacific/Auckland"
"""Tests with Spark run in a zone half a day from UTC, so that every time they expect also tests the zone."""


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home folder for the lake and Feast's registries."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="package")
def lake(home: Path) -> LakeSettings:
    """The settings of a real lake."""
    return LakeSettings().under(home)


@pytest.fixture(scope="package")
def store(valkey: StoreSettings, home: Path) -> StoreSettings:
    """The settings of a real online store, with a place for Feast's registry."""
    return valkey.under(home)


@pytest.fixture(scope="package")
def spark(lake: LakeSettings, cache: Path) -> Iterator[SparkSession]:
    """The Spark session of all tests."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = ZONE
    time.tzset()
    session = build_session(lake, parse_namespace("tests"), cache)
    yield session
    session.stop()
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture(scope="package")
def erasures(broker: KafkaSettings) -> Iterator[LedgerReader]:
    """A real ledger that nobody is in."""
    topics = Topics(parse_namespace(f"e{time.time_ns() % 10**15}"))
    ensure_topics(broker, topics)
    reader = LedgerReader(broker, topics)
    yield reader
    reader.close()


@pytest.fixture
def tables(spark: SparkSession, namespace: Namespace) -> Namespace:
    """A namespace whose tables exist and are empty."""
    ensure_tables(spark, namespace)
    return namespace
