"""Which items go with which: for each item its strongest neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.row_file import RowFile, RowPart, RowTable
from models.top import best

NEIGHBOURS = "neighbours"
"""The artifact's array of the stacked tables."""

Rows = NDArray[np.int64]
Weights = NDArray[np.float32]


@dataclass(frozen=True)
class Votes:
    """Votes for items: `rows` int32[n], repeats allowed, and their `weights` float32[n]."""

    rows: NDArray[np.int32]
    weights: Weights

    def best(self, k: int) -> tuple[Rows, Weights]:
        """Return up to `k` rows with the largest sums, best first, ties by row; no row with a sum of 0."""
        if len(self.rows) == 0:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
        # Sorted, so that it costs what the votes do, not what the catalogue would.
        order = np.argsort(self.rows, kind="stable")
        voted = self.rows[order]
        first = np.append(0, np.flatnonzero(voted[1:] != voted[:-1]) + 1)
        rows = voted[first].astype(np.int64)
        sums = np.add.reduceat(self.weights[order], first, dtype=np.float64).astype(np.float32)
        order = best(sums, k)
        order = order[sums[order] > 0]
        return rows[order], sums[order]


@dataclass(frozen=True)
class Neighbours:
    """`rows` int32[items, k] and `weights` float32[items, k], strongest first; weight 0 where an item has fewer."""

    rows: RowTable[np.int32]
    weights: RowTable[np.float32]

    def votes(self, history: Rows, weights: Weights) -> Votes:
        """Return what the items of `history`, int64[n], vote for, each with its own weight, float32[n]."""
        known = history < len(self.rows)
        history, weights = history[known], weights[known]
        return Votes(
            self.rows.take(history, axis=0).ravel(), (self.weights.take(history, axis=0) * weights[:, None]).ravel()
        )


@dataclass(frozen=True)
class FittedNeighbours(Neighbours):
    """The same as arrays in memory, as they are fitted."""

    rows: NDArray[np.int32]
    weights: Weights


def of_each(tables: Sequence[Neighbours], history: Sequence[Rows]) -> list[tuple[NDArray[np.int32], Weights]]:
    """Return each table's rows, int32 [n, k], and weights, float32 [n, k], of its `history`, int64[n].

    Each history begins the longest one among them, so that whole rows of a file that holds several tables are read
    once. Raises IndexError for an item that a table does not have.
    """
    longest = max(history, key=len)
    whole: dict[RowFile[Any], NDArray[Any]] = {}

    def part(table: RowTable[Any], rows: Rows) -> NDArray[Any]:
        if not isinstance(table, RowPart):
            return table.take(rows, axis=0)
        if table.file not in whole:
            whole[table.file] = table.file.take(longest, axis=0)
        return table.of(whole[table.file][: len(rows)])

    return [(part(one.rows, rows), part(one.weights, rows)) for one, rows in zip(tables, history, strict=True)]


def stacked(tables: Sequence[FittedNeighbours]) -> NDArray[np.int32]:
    """Return tables of one size as one array, int32 [items, tables * 2 * k]: what is of one item lies together.

    Each table's rows come before its weights, whose bits stand as int32.
    """
    return np.hstack([part.view(np.int32) for table in tables for part in (table.rows, table.weights)])


def unstacked(file: RowFile[np.int32], tables: int) -> list[Neighbours]:
    """Return the tables whose `stacked` array a file holds; raises ValueError when it cannot hold so many."""
    k, left = divmod(file.width, 2 * tables)
    if left:
        raise ValueError(f"rows of {file.width} numbers are not those of {tables} neighbour tables")
    starts = range(0, file.width, 2 * k) if k else [0] * tables
    return [
        Neighbours(file.part(slice(start, start + k), np.int32), file.part(slice(start + k, start + 2 * k), np.float32))
        for start in starts
    ]
