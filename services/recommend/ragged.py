"""Sequences of different lengths in two arrays, which can be memory-mapped: no Python object for each of them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Ragged(Generic[Scalar]):
    """Part i is `values[starts[i] : starts[i + 1]]`; `starts` is int64[parts + 1]."""

    values: NDArray[Scalar]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, part: int) -> NDArray[Scalar]:
        return self.values[self.starts[part] : self.starts[part + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of each part."""
        return np.diff(self.starts)

    def only(self, kept: NDArray[np.bool_]) -> Self:
        """Return the parts that `kept`, bool[parts], marks."""
        # By runs, since an index of every value would take several times their memory.
        edges = np.flatnonzero(np.diff(np.concatenate(([False], kept, [False])).astype(np.int8)))
        bounds = self.starts[edges].reshape(-1, 2).tolist()
        values = np.concatenate([self.values[:0], *(self.values[first:last] for first, last in bounds)])
        return type(self)(values, _starts(self.lengths[kept]))

    def joined(self, other: Self) -> Self:
        """Return the parts of this one, then those of `other`."""
        return type(self)(
            np.concatenate((self.values, other.values)),
            np.concatenate((self.starts, other.starts[1:] + self.starts[-1])),
        )


Texts = Ragged[np.uint8]
"""Texts or other bytes, UTF-8."""


def ragged(parts: Iterable[Iterable[int]], dtype: Any) -> Ragged[Any]:
    """Return sequences of numbers as one."""
    lists = [list(part) for part in parts]
    values = np.array([value for part in lists for value in part], dtype=dtype)
    return Ragged(values, _starts(np.array([len(part) for part in lists], dtype=np.int64)))


def joined_bytes(parts: Iterable[bytes]) -> Texts:
    """Return pieces of bytes as one."""
    pieces = list(parts)
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    return Ragged(np.frombuffer(b"".join(pieces), dtype=np.uint8), _starts(lengths))


def joined_texts(texts: Iterable[str]) -> Texts:
    """Return texts as one."""
    return joined_bytes(text.encode() for text in texts)


def texts_of(texts: Texts) -> Iterator[str]:
    """Yield each text."""
    data, starts = texts.values.tobytes(), texts.starts.tolist()
    for first, last in pairwise(starts):
        yield data[first:last].decode()


def _starts(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)))
