"""An act beside each of the user's acts before it: how alike the two items were to those who had met both until then.

Likeness is the shrunk cosine of surprises, as in item-based neighbourhood models (Y. Koren, Factor in the neighbors,
ACM TKDD 4(1), 2010), but kept up act by act, so that no act has a part in what its own features are computed from.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.acts import Acts
from models.past import Past
from streaming.errors import FlywheelError

_MOST_ITEMS = 10_000
_FEATURES = 8  # and one for each number of the content
_LITTLE, _MUCH = 3.0, 15.0  # users in common that a cosine is shrunk by
_RARE = 5.0  # acts that every item counts as having beside its own
_NEAR = 1e-3

Floats = NDArray[np.float64]
Single = NDArray[np.float32]
Ints = NDArray[np.int64]


class TooManyItems(FlywheelError):
    """More items than a table of all pairs can hold."""


@dataclass(frozen=True)
class Pairs:
    """`history`, int64[n, places], holds each user's acts before an act, newest first, then -1.

    `cosines` and `common`, float32[n, places], compare the act's item with each of theirs: the cosine of the surprises
    of users who had met both, and how many these were. `own`, float32[n], and `others`, float32[n, places], count all
    acts on the items.
    """

    history: Ints
    cosines: Single
    common: Single
    own: Single
    others: Single


def pairs_before(acts: Acts, surprises: Floats, places: int) -> Pairs:
    """Return each act's pairs with the user's newest acts in earlier seconds.

    Raises TooManyItems above 10,000 items: memory goes with their square.
    """
    if len(acts.content) > _MOST_ITEMS:
        raise TooManyItems(f"pairs of {len(acts.content):,} items do not fit: give {_MOST_ITEMS:,} items at most")
    history = Past(acts.users, acts.times).newest(places)
    own = Past(acts.items, acts.times).count.astype(np.float32)
    cosines, common, others = (np.zeros(history.shape, np.float32) for _ in range(3))
    pairs = Pairs(history, cosines, common, own, others)
    table = _Likeness(len(acts.content))
    for second in _seconds(acts.times):
        for act in second:
            earlier = history[act][history[act] >= 0]
            size, items = len(earlier), acts.items[earlier]
            cosines[act, :size], common[act, :size] = table.of(acts.items[act], items)
            others[act, :size] = table.acts[items]
        for act in second:
            table.add(int(acts.users[act]), int(acts.items[act]), float(surprises[act]))
    return pairs


def pair_width(acts: Acts) -> int:
    """Return the number of features of a pair."""
    numbers: int = acts.content.shape[1] - acts.categories
    return _FEATURES + numbers


def pair_features(acts: Acts, pairs: Pairs, part: Ints) -> Single:
    """Return float32[part, places, features] of some acts' pairs, 0 where there is none."""
    history = pairs.history[part]
    present, other = history >= 0, np.maximum(history, 0)
    cosines, common = pairs.cosines[part], pairs.common[part]
    own_acts, other_acts = pairs.own[part][:, None], pairs.others[part]
    own, others = acts.content[acts.items[part]][:, None], acts.content[acts.items[other]]
    split = acts.categories
    gaps = np.log1p((acts.times[part][:, None] - acts.times[other]) / 1000)
    columns = [
        cosines * common / (common + _LITTLE) * 3,
        cosines * common / (common + _MUCH) * 5,
        np.log1p(common) / 2 - 1,
        common / np.sqrt((own_acts + _RARE) * (other_acts + _RARE)) * 3,
        np.abs(np.log1p(own_acts) - np.log1p(other_acts)) / 2,
        (own[..., :split] * others[..., :split]).sum(axis=-1) * 2 - 1,
        gaps / 10,
        np.broadcast_to(np.log1p(np.arange(history.shape[1])) / 2 - 1, history.shape),
        *np.moveaxis(-np.abs(own[..., split:] - others[..., split:]), -1, 0),
    ]
    return np.where(present[..., None], np.stack(columns, axis=-1), 0.0).astype(np.float32)


class _Likeness:
    """Sums over users of the surprises of every two items, float32[items, items]."""

    def __init__(self, items: int) -> None:
        self._products, self._squares, self._common = (np.zeros((items, items), np.float32) for _ in range(3))
        self.acts = np.zeros(items, np.float32)
        self._items: dict[int, list[int]] = defaultdict(list)
        self._surprises: dict[int, list[float]] = defaultdict(list)

    def of(self, item: int, others: Ints) -> tuple[Single, Single]:
        """Return the cosines of an item with others, and the users in common."""
        norms = np.sqrt(self._squares[item, others] * self._squares[others, item])
        return self._products[item, others] / (norms + _NEAR), self._common[item, others]

    def add(self, user: int, item: int, surprise: float) -> None:
        """Count a user's act beside all that the user did before; `_squares[a, b]` sums those of `a`."""
        others, theirs = self._items[user], np.array(self._surprises[user], dtype=np.float32)
        self._products[item, others] += surprise * theirs
        self._products[others, item] += surprise * theirs
        self._squares[item, others] += surprise**2
        self._squares[others, item] += theirs**2
        self._common[item, others] += 1
        self._common[others, item] += 1
        self.acts[item] += 1
        others.append(item)
        self._surprises[user].append(surprise)


def _seconds(times: Ints) -> Iterator[range]:
    seconds = times // 1000
    starts = np.flatnonzero(np.append(True, seconds[1:] != seconds[:-1])[: len(seconds)])
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(seconds)], strict=True):
        yield range(start, end)
