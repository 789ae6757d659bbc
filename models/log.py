"""The log of interactions in columns, the form in which training reads it."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming.errors import FlywheelError
from streaming.events import Kind

KINDS = tuple(kind.value for kind in Kind)
_NEGATIVE = np.array([kind.is_negative for kind in Kind])
_CODES = {kind: code for code, kind in enumerate(KINDS)}


class UnknownKind(FlywheelError):
    """The lake holds interactions of a kind that this release does not know."""


def kind_codes(kinds: Iterable[str]) -> NDArray[np.int64]:
    """Return each kind's index in KINDS, int64[n]; raises UnknownKind."""
    try:
        return np.array([_CODES[kind] for kind in kinds], dtype=np.int64)
    except KeyError as error:
        raise UnknownKind(
            f"the lake holds interactions of the kind {error}, which this release does not know: use a newer release"
        ) from error


def kind_of(kind: str) -> Kind:
    """Return a kind by its name; raises UnknownKind."""
    return Kind(KINDS[kind_codes([kind])[0]])


@dataclass(frozen=True)
class Log:
    """Interactions in columns, int64[n] each, ordered by user, time and event id; the order within a user is theirs.

    `users` are codes 0 … users-1, `rows` item rows, `times` ms, `kinds` indices into KINDS. `starts`, int64[users + 1],
    bounds each user's part. A guest's session counts as a user. `values`, float64[n], is NaN where an event has none;
    without it no event has one.
    """

    users: NDArray[np.int64]
    rows: NDArray[np.int64]
    times: NDArray[np.int64]
    kinds: NDArray[np.int64]
    starts: NDArray[np.int64]
    values: NDArray[np.float64] | None = None

    @property
    def wanted(self) -> NDArray[np.bool_]:
        """Which interactions are not negative feedback, bool[n]."""
        return ~_NEGATIVE[self.kinds]

    def before(self, time: int) -> "Log":
        """Return what happened before `time`, ms, with the same user codes."""
        kept = self.times < time
        users = self.users[kept]
        starts = np.searchsorted(users, np.arange(len(self.starts)))
        values = None if self.values is None else self.values[kept]
        return Log(users, self.rows[kept], self.times[kept], self.kinds[kept], starts, values)

    def history(self, user: int, time: int, length: int) -> slice:
        """Return where the newest `length` interactions of a user before `time`, ms, lie."""
        first, last = self.starts[user], self.starts[user + 1]
        end = int(first + np.searchsorted(self.times[first:last], time))
        return slice(max(int(first), end - length), end)

    def between(self, user: int, start: int, end: int) -> slice:
        """Return where the interactions of a user from `start` up to, but not at, `end` (ms) lie."""
        first, last = self.starts[user], self.starts[user + 1]
        bounds = first + np.searchsorted(self.times[first:last], (start, end))
        return slice(int(bounds[0]), int(bounds[1]))
