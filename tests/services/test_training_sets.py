"""Which models have lost their training sets, by a real lake's snapshots and a real registry."""

from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from small_lake import write_lake

from features.config import LakeSettings
from features.snapshots import current_snapshot_id, open_catalog, snapshot_ids
from models.registry import Registry
from services.erasure.training_sets import note_training_sets_gone
from streaming.namespace import Namespace

SHOP = Namespace("shop")
ROWS = pa.table({"event_id": ["e1"]})


@pytest.fixture
def lake(tmp_path: Path) -> LakeSettings:
    return write_lake(tmp_path, SHOP, {"interactions": ROWS, "examples": ROWS})


def add(registry: Registry, folder: Path, version: str, **snapshots: int | None) -> None:
    artifact = folder / version
    artifact.mkdir()
    lineage = {"snapshots": snapshots, "seed": 7, "code_version": "1"}
    (artifact / "spec.json").write_bytes(msgspec.json.encode({"lineage": lineage}))
    registry.add(artifact, version)


def test_a_model_whose_snapshot_expired_is_noted_once_and_its_spec_is_not_read_again(
    lake: LakeSettings, tmp_path: Path
) -> None:
    registry = Registry(str(tmp_path / "registry"), SHOP)
    first = current_snapshot_id(lake, SHOP, "interactions")
    examples = current_snapshot_id(lake, SHOP, "examples")
    write_lake(tmp_path, SHOP, {"interactions": ROWS})
    second = current_snapshot_id(lake, SHOP, "interactions")
    add(registry, tmp_path, "m1", interactions=first, examples=examples)
    add(registry, tmp_path, "m2", interactions=second, examples=examples)
    add(registry, tmp_path, "m3", items=1)  # no table of users: the lake is not asked for it
    assert snapshot_ids(lake, SHOP, "interactions") == {first, second}
    assert note_training_sets_gone(registry, lake, SHOP, now=1) == []

    interactions = open_catalog(lake).load_table((SHOP, "interactions"))
    interactions.maintenance.expire_snapshots().by_id(first).commit()
    assert note_training_sets_gone(registry, lake, SHOP, now=2) == ["m1"]
    (tmp_path / "registry" / SHOP / "artifacts" / "m1" / "spec.json").unlink()
    assert note_training_sets_gone(registry, lake, SHOP, now=3) == ["m1"]
    assert registry.training_set_gone_since("m1") == 2
    assert registry.training_set_gone_since("m2") is None
