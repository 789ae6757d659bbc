"""How strongly a history speaks for each of some candidates, by several neighbour tables at once. Numpy only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.neighbours import Neighbours

Rows = NDArray[np.int64]
Weights = NDArray[np.float32]


class Places:
    """Finds candidates by row. What it looks them up in is kept, so that a query costs what its candidates do."""

    def __init__(self) -> None:
        self._places = np.zeros(0, dtype=np.int32)

    @contextmanager
    def of(self, rows: Rows, size: int) -> Iterator[NDArray[np.int32]]:
        """Give int32 [size or more]: for each row its place among the distinct `rows` from 1, or 0. Not to be kept."""
        if size > len(self._places):
            self._places = np.zeros(size + size // 8, dtype=np.int32)
        self._places[rows] = np.arange(1, len(rows) + 1)
        try:
            yield self._places
        finally:
            self._places[rows] = 0


@dataclass(frozen=True)
class Electorate:
    """Who votes: each table with the rows, int64[n], of the history's items that vote by it; all are equally wide.

    `weights`, float32 [kinds, voters], are those of each voter, in the order of the tables, in each kind of vote.
    """

    tables: Sequence[tuple[Neighbours, Rows]]
    weights: Weights


def votes_for(electorate: Electorate, places: NDArray[np.int32], count: int) -> Weights:
    """Return float32 [kinds, count]: the sums of the votes for `count` candidates, which `places` finds."""
    known = [rows < len(table.rows) for table, rows in electorate.tables]
    voting = [(table, rows[knows]) for (table, rows), knows in zip(electorate.tables, known, strict=True)]
    found = places.take(np.concatenate([table.rows.take(rows, axis=0) for table, rows in voting]))
    hits = np.flatnonzero(found)  # most votes are for other items
    strengths = np.concatenate([table.weights.take(rows, axis=0) for table, rows in voting]).take(hits)
    voters = np.flatnonzero(np.concatenate(known)).take(hits // max(found.shape[1], 1))
    votes = electorate.weights.take(voters, axis=1) * strengths
    kinds = len(votes)
    cells = found.take(hits) - 1 + count * np.arange(kinds)[:, None]
    return np.bincount(cells.ravel(), votes.ravel(), minlength=kinds * count).astype(np.float32).reshape(kinds, count)
