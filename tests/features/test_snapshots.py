"""Reading the lake without a JVM, and what is said when a snapshot is not there any more."""

from pathlib import Path

import pytest
from lake import arrow, write_rows
from small_lake import in_microseconds

from features.config import LakeSettings
from features.snapshots import SnapshotMissing, open_catalog, read_table
from streaming.namespace import Namespace

SHOP = Namespace("shop")


def click(number: int) -> dict[str, object]:
    return {"event_id": f"e{number}", "happened_at": 1_000, "user_id": "u", "item_id": "i", "kind": "click"}


@pytest.fixture
def lake(tmp_path: Path) -> LakeSettings:
    return write_rows(tmp_path, SHOP, interactions=[click(1)])


def test_a_snapshot_that_expired_is_named(lake: LakeSettings) -> None:
    first = read_table(lake, SHOP, "interactions").snapshot_id
    assert first is not None
    table = open_catalog(lake).load_table((SHOP, "interactions"))
    table.append(in_microseconds(arrow("interactions", [click(2)])))
    assert read_table(lake, SHOP, "interactions", snapshot_id=first).arrow["event_id"].to_pylist() == ["e1"]
    table.maintenance.expire_snapshots().by_id(first).commit()
    with pytest.raises(SnapshotMissing, match=f"'interactions' of namespace 'shop' has no snapshot {first} any more"):
        read_table(lake, SHOP, "interactions", snapshot_id=first)
    assert read_table(lake, SHOP, "interactions").arrow["event_id"].to_pylist() == ["e2", "e1"]


def test_files_that_are_removed_while_they_are_read_are_a_sentence(lake: LakeSettings, tmp_path: Path) -> None:
    for file in tmp_path.rglob("*.parquet"):
        file.unlink()
    with pytest.raises(SnapshotMissing, match="expired while it was read"):
        read_table(lake, SHOP, "interactions")


def test_a_table_that_nothing_was_written_to_is_empty(lake: LakeSettings) -> None:
    open_catalog(lake).create_table((SHOP, "nothing yet"), schema=in_microseconds(arrow("items", [])).schema)
    found = read_table(lake, SHOP, "nothing yet")
    assert (found.snapshot_id, found.arrow.num_rows) == (None, 0)


def test_without_a_lake_or_a_table_the_sentence_says_what_to_run(lake: LakeSettings, tmp_path: Path) -> None:
    for settings, table in ((lake, "examples"), (LakeSettings().under(tmp_path / "elsewhere"), "items")):
        with pytest.raises(SnapshotMissing, match="run `flywheel land` first"):
            read_table(settings, SHOP, table)
