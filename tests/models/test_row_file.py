"""Rows read from a file are those of the array that was written."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.neighbours import FittedNeighbours, stacked, unstacked
from models.row_file import RowFile
from models.scorer import Scorer


@given(
    shape=st.tuples(st.integers(1, 6), st.integers(0, 5)),
    dtype=st.sampled_from([np.int32, np.float32]),
    asked=st.lists(st.integers(0, 5), max_size=8),
)
def test_rows_are_those_of_the_array(
    tmp_path_factory: pytest.TempPathFactory, shape: tuple[int, int], dtype: type[np.generic], asked: list[int]
) -> None:
    table = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    path = tmp_path_factory.mktemp("table") / "table.npy"
    np.save(path, table)
    file: RowFile[np.generic] = RowFile(path)
    rows = np.array([row for row in asked if row < len(table)], dtype=np.int64)
    found = file.take(rows, axis=0)
    assert len(file) == len(table)
    assert found.dtype == table.dtype
    assert found.tolist() == table[rows].tolist()
    for wrong in (-1, len(table)):
        with pytest.raises(IndexError, match="rows lie between 0 and"):
            file.take(np.array([wrong]), axis=0)


def test_what_is_no_table_of_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.npy"
    for other in (np.zeros(3), np.zeros((2, 2, 2)), np.asfortranarray(np.ones((3, 2)))):
        np.save(path, other)
        with pytest.raises(ValueError, match="no array of rows"):
            RowFile(path)
    np.save(path, np.ones((3, 2)))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        RowFile(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="magic"):
        RowFile(path)


def test_neighbour_tables_are_read_and_never_mapped(scorer: Scorer) -> None:
    mapped = Path("/proc/self/maps").read_text(encoding="utf-8")
    assert "item_vectors.npy" in mapped
    assert "neighbours.npy" not in mapped


@given(items=st.integers(1, 5), k=st.integers(0, 4), seed=st.integers(0, 9))
def test_stacked_neighbour_tables_are_the_same_when_they_are_read(
    tmp_path_factory: pytest.TempPathFactory, items: int, k: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tables = [
        FittedNeighbours(rng.integers(0, 9, (items, k), dtype=np.int32), rng.random((items, k), dtype=np.float32))
        for _ in range(3)
    ]
    path = tmp_path_factory.mktemp("stacked") / "neighbours.npy"
    np.save(path, stacked(tables))
    file: RowFile[np.int32] = RowFile(path)
    every = np.arange(items)
    for table, found in zip(tables, unstacked(file, 3), strict=True):
        assert found.rows.take(every, axis=0).tolist() == table.rows.tolist()
        assert found.weights.take(every, axis=0).tolist() == table.weights.tolist()
    if k:
        with pytest.raises(ValueError, match="not those of 7 neighbour tables"):
            unstacked(file, 7)
