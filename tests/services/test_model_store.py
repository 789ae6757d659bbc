"""The local cache of models in BentoML's store."""

import os
from pathlib import Path

import bentoml
import pytest
from bentoml.exceptions import NotFound

from models import artifact as artifact_module
from models.artifact import CorruptArtifact
from models.model_store import ModelCache
from models.registry import Registry, UnknownModel
from models.scorer import Scorer
from streaming.namespace import Namespace


@pytest.fixture
def registry(tmp_path: Path, artifact: tuple[Path, str], namespace: Namespace) -> Registry:
    registry = Registry(str(tmp_path / "models"), namespace)
    registry.add(*artifact)
    return registry


def test_a_model_is_fetched_once_and_loads_from_the_store(
    registry: Registry, artifact: tuple[Path, str], namespace: Namespace, tmp_path: Path
) -> None:
    cache, (_, version) = ModelCache(registry, namespace), artifact
    folder = cache.pull(version)
    assert Scorer.load(folder).version == version
    (tmp_path / "models" / namespace / "artifacts" / version / "ranker.onnx").unlink()
    assert cache.pull(version) == folder


def test_the_store_keeps_where_a_model_comes_from(
    registry: Registry, artifact: tuple[Path, str], namespace: Namespace
) -> None:
    cache, (_, version) = ModelCache(registry, namespace), artifact
    cache.pull(version)
    model = bentoml.models.get(cache.tag(version))
    assert model.info.labels["seed"] == "7"
    assert model.info.labels["code_version"] == "test"
    assert model.info.metadata["metrics"]["items"] == 60
    assert model.info.labels["parent"] == "none"
    assert model.info.metadata["spec"]["lineage"]["code_version"] == "test"


def test_a_damaged_model_never_enters_the_store(
    registry: Registry, artifact: tuple[Path, str], namespace: Namespace, tmp_path: Path
) -> None:
    cache, (_, version) = ModelCache(registry, namespace), artifact
    (tmp_path / "models" / namespace / "artifacts" / version / "ranker.onnx").write_bytes(b"damaged")
    with pytest.raises(CorruptArtifact, match=r"'ranker\.onnx' is damaged"):
        cache.pull(version)
    with pytest.raises(NotFound):
        bentoml.models.get(cache.tag(version))


def test_dropped_models_are_gone_and_unknown_ones_are_named(
    registry: Registry, artifact: tuple[Path, str], namespace: Namespace
) -> None:
    cache, (_, version) = ModelCache(registry, namespace), artifact
    cache.pull(version)
    cache.keep_only(version)
    cache.pull(version)
    cache.keep_only("another")
    with pytest.raises(NotFound):
        bentoml.models.get(cache.tag(version))
    cache.drop(version)
    with pytest.raises(UnknownModel, match="'m9'"):
        cache.pull("m9")


def test_a_model_is_read_whole_once_and_again_after_any_write(
    registry: Registry, artifact: tuple[Path, str], namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, (_, version) = ModelCache(registry, namespace), artifact
    folder = cache.pull(version)
    summed: list[str] = []
    sum_of = artifact_module._sha256
    monkeypatch.setattr(artifact_module, "_sha256", lambda path: summed.append(path.name) or sum_of(path))
    everything = {path.name for path in folder.iterdir()} - {"manifest.json"}
    assert cache.open(version).version == version
    assert set(summed) == everything
    summed.clear()
    assert cache.open(version).version == version
    assert summed == []
    file = folder / "item_vectors.npy"
    content, before = bytearray(file.read_bytes()), file.stat()
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))  # neither its size nor its time tells
    with pytest.raises(CorruptArtifact, match=r"'item_vectors\.npy' is damaged"):
        cache.open(version)
    content[-1] ^= 1
    file.write_bytes(content)
    summed.clear()
    assert cache.open(version).version == version
    assert set(summed) == everything
    cache.drop(version)


@pytest.mark.parametrize("seal", [b"", b"{}", b'{"manifest":"0","files":{}}'])
def test_a_seal_that_says_nothing_true_proves_nothing(
    registry: Registry, artifact: tuple[Path, str], namespace: Namespace, seal: bytes
) -> None:
    cache, (_, version) = ModelCache(registry, namespace), artifact
    folder = cache.pull(version)
    cache.open(version)
    folder.with_name("verified.json").write_bytes(seal)
    file = folder / "ranker.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(CorruptArtifact, match=r"'ranker\.onnx' is damaged"):
        cache.open(version)
    cache.drop(version)
