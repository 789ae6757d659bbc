"""The registry in an object store: what holds on a folder holds there, though two promote at once."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import object_store

from models.registry import Champion, ChampionChanged, Registry
from streaming.namespace import Namespace


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with object_store("models") as url:
        yield f"{url}/registry"


@pytest.fixture
def registry(store: str, namespace: Namespace) -> Registry:
    return Registry(store, namespace)


def change(number: int, version: str) -> Champion:
    return Champion(number=number, model_version=version, change="promote", changed_at=number, gate={})


def add(registry: Registry, folder: Path, version: str) -> None:
    artifact = folder / version
    artifact.mkdir()
    (artifact / "spec.json").write_text(version)
    registry.add(artifact, version)


def test_a_model_comes_back_as_it_was_put_in(registry: Registry, tmp_path: Path) -> None:
    assert registry.versions() == []
    assert registry.champion() is None
    add(registry, tmp_path, "m1")
    add(registry, tmp_path, "m2")
    assert registry.versions() == ["m1", "m2"]
    registry.fetch("m1", tmp_path / "fetched")
    assert {path.name: path.read_text() for path in (tmp_path / "fetched").iterdir()} == {"spec.json": "m1"}


def test_promotions_and_rollbacks_are_a_history(registry: Registry, tmp_path: Path) -> None:
    for version in ("m1", "m2"):
        add(registry, tmp_path, version)
    registry.promote(change(1, "m1"))
    registry.promote(change(2, "m2"))
    registry.rollback(3, "worse")
    assert [(one.number, one.model_version) for one in registry.history()] == [(1, "m1"), (2, "m2"), (3, "m1")]


def test_of_processes_that_promote_at_once_one_wins_and_the_others_are_told(
    store: str, namespace: Namespace, registry: Registry, tmp_path: Path
) -> None:
    add(registry, tmp_path, "m1")
    together, outcomes = threading.Barrier(4), list[str]()

    def promote() -> None:
        own = Registry(store, namespace)
        together.wait()
        try:
            own.promote(change(1, "m1"))
            outcomes.append("won")
        except ChampionChanged:
            outcomes.append("told")

    threads = [threading.Thread(target=promote) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["told", "told", "told", "won"]
    assert len(registry.history()) == 1
