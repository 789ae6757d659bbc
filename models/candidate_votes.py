"""How strongly a history speaks for each of some candidates, by several neighbour tables at once. Numpy only."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.neighbours import Neighbours, of_each

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
    """Who votes: each table with how many of the `voters`, int64[n], the first ones, vote by it; all are equally wide.

    `weights`, float32 [kinds, voters], are those of each voter, in the order of the tables, in each kind of vote.
    """

    voters: Rows
    tables: Sequence[tuple[Neighbours, int]]
    weights: Weights


def votes_for(electorate: Electorate, places: NDArray[np.int32], count: int) -> Weights:
    """Return float32 [kinds, count]: the sums of the votes for `count` candidates, which `places` finds."""
    voters = electorate.voters
    known = [voters[:most] < len(table.rows) for table, most in electorate.tables]
    tables = [table for table, _ in electorate.tables]
    cast = of_each(tables, [voters[: len(knows)][knows] for knows in known])
    found = places.take(np.concatenate([rows for rows, _ in cast]))
    hits = np.flatnonzero(found)  # most votes are for other items
    strengths = np.concatenate([weights for _, weights in cast]).take(hits)
    voting = np.flatnonzero(np.concatenate(known)).take(hits // max(found.shape[1], 1))
    votes = electorate.weights.take(voting, axis=1) * strengths
    kinds = len(votes)
    cells = found.take(hits) - 1 + count * np.arange(kinds)[:, None]
    return np.bincount(cells.ravel(), votes.ravel(), minlength=kinds * count).astype(np.float32).reshape(kinds, count)
