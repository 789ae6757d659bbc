"""The real servers that tests share, one of each for a whole run, and a namespace for each test."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from features.config import StoreSettings
from features.valkey import start_valkey
from models.before_torch import set_up_torch
from streaming.config import KafkaSettings
from streaming.embedded.broker import start_broker
from streaming.embedded.java import user_cache
from streaming.namespace import Namespace, parse_namespace


def pytest_configure() -> None:
    """Train as the product does, and let no property test fail because the machine is busy."""
    set_up_torch(os.environ)
    hypothesis.settings.register_profile("patient", deadline=None)
    hypothesis.settings.load_profile("patient")


@pytest.fixture(scope="session")
def cache() -> Path:
    """The user's cache with Java and jars, shared with the product itself."""
    return user_cache(os.environ)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[KafkaSettings]:
    """A real broker; the settings that reach it."""
    running = start_broker(tmp_path_factory.mktemp("broker"), KafkaSettings(), cache, os.environ)
    yield running.settings
    running.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSettings]:
    """A real Valkey; the settings that reach it."""
    running = start_valkey(tmp_path_factory.mktemp("valkey"), StoreSettings(), os.environ)
    yield running.settings
    running.stop()


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> Namespace:
    """A namespace that no other test uses."""
    name = parse_namespace(f"t{random.SystemRandom().getrandbits(64):016x}")
    print(f"namespace of {request.node.name}: {name}")  # noqa: T201 - pytest shows it when the test fails
    return name
