"""Behaviour of which only the order is known: which items each user came to, and which came next."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from streaming.dataset import DataSetMissing
from streaming.errors import FlywheelError


class SequencesUnreadable(FlywheelError):
    """A file does not hold lines of a user and an item."""


@dataclass(frozen=True)
class Sequences:
    """The item rows of every user in time order, as compressed rows.

    User u has `rows[starts[u]:starts[u + 1]]`; `rows` is int32[events], `starts` int64[users + 1], and the catalogue
    is the rows 0 … items - 1. Raises ValueError when the three do not fit together.
    """

    items: int
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]

    def __post_init__(self) -> None:
        ends = len(self.starts) > 0 and self.starts[0] == 0 and self.starts[-1] == len(self.rows)
        if not ends or (np.diff(self.starts) < 0).any():
            raise ValueError("the starts of sequences rise from 0 to the number of events")
        if len(self.rows) and not (self.rows.min() >= 0 and self.rows.max() < self.items):
            raise ValueError("the rows of sequences lie within the catalogue")

    @property
    def users(self) -> int:
        """The number of users, those without an event included."""
        return len(self.starts) - 1

    def lengths(self) -> NDArray[np.int64]:
        """Return the number of events of each user, int64[users]."""
        return np.diff(self.starts)

    def owners(self) -> NDArray[np.int64]:
        """Return the user of each event, int64[events]."""
        return np.repeat(np.arange(self.users), self.lengths())

    def counts(self) -> NDArray[np.int64]:
        """Return the number of events of each item, int64[items]."""
        return np.bincount(self.rows, minlength=self.items)

    def batch(self, first: int, last: int) -> "Sequences":
        """Return the users `first` to `last`, the latter excluded."""
        starts = self.starts[first : last + 1]
        return Sequences(self.items, self.rows[starts[0] : starts[-1]], starts - starts[0])

    def held_back(self, count: int) -> "Sequences":
        """Return the sequences without each user's last `count` events; a shorter one becomes empty."""
        lengths = np.maximum(self.lengths() - count, 0)
        kept = np.arange(len(self.rows)) - np.repeat(self.starts[:-1], self.lengths()) < np.repeat(
            lengths, self.lengths()
        )
        return Sequences(self.items, self.rows[kept], np.concatenate(([0], np.cumsum(lengths))))

    def questions(self, place: int = 1) -> "Questions":
        """Return what came before each user's event at `place` from the end (1 = the last), and that event.

        Raises ValueError when a user has fewer events.
        """
        if (self.lengths() < place).any():
            raise ValueError(f"a user with fewer than {place} events cannot be asked: leave them out")
        return Questions(self.held_back(place), self.rows[self.starts[1:] - place])

    def training(self) -> "Sequences":
        """Return x₁ … xₙ₋₂ of every user."""
        return self.held_back(2)

    def validation(self) -> "Questions":
        """Return the question for xₙ₋₁ given x₁ … xₙ₋₂. Raises ValueError when a user has fewer than 2 events."""
        return self.questions(2)

    def test(self) -> "Questions":
        """Return the question for xₙ given x₁ … xₙ₋₁. Raises ValueError when a user has no event."""
        return self.questions(1)

    def newest(self, length: int) -> NDArray[np.int64]:
        """Return each user's last `length` rows, newest first, -1 where there are fewer: int64[users, length]."""
        places = self.starts[1:, None] - 1 - np.arange(length)
        there = places >= self.starts[:-1, None]
        newest = np.full(places.shape, -1, dtype=np.int64)
        newest[there] = self.rows[places[there]]
        return newest

    def seen(self) -> sparse.csr_array:
        """Return 1 where a user came to an item at least once: float32[users, items], sparse."""
        seen = sparse.csr_array(
            (np.ones(len(self.rows), dtype=np.float32), self.rows, self.starts), shape=(self.users, self.items)
        )
        seen.sum_duplicates()
        seen.data[:] = 1.0
        return seen


@dataclass(frozen=True)
class Questions:
    """Histories and the item that came next, `targets` int32[users]."""

    histories: Sequences
    targets: NDArray[np.int32]


def read_sequences(path: Path) -> Sequences:
    """Read a text file, gzipped or not, of lines "user item" with whole numbers, each user's in time order.

    Users and items get rows in the order of their numbers.
    Raises DataSetMissing when there is no such file and SequencesUnreadable when a line is something else.
    """
    if not path.is_file():
        raise DataSetMissing(f"{path} is not there: name the file of the data set")
    wrong = f"{path} does not hold lines of a user's and an item's number"
    try:
        table = pd.read_csv(path, sep=" ", header=None, dtype=np.int64).to_numpy()
    except (ValueError, EOFError, OSError, zlib.error) as error:
        raise SequencesUnreadable(f"{wrong}: {error}") from error
    if table.shape[1] != 2:
        raise SequencesUnreadable(f"{wrong}: its lines have {table.shape[1]} fields")
    users, user = np.unique(table[:, 0], return_inverse=True)
    items, item = np.unique(table[:, 1], return_inverse=True)
    starts = np.concatenate(([0], np.cumsum(np.bincount(user, minlength=len(users)))))
    return Sequences(len(items), item[np.argsort(user, kind="stable")].astype(np.int32), starts)
