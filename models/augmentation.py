"""Sequence augmentation: what the model reads of a window changes, what it is asked for stays what truly followed.

X. Xie et al., Contrastive learning for sequential recommendation, ICDE 2022 (crop, mask, reorder); Z. Liu et al.,
Contrastive self-supervised sequential recommendation with robust augmentation, 2021 (substitute). There they make views
for a contrastive loss; here they are inputs of the next-item loss, where a mask adds to `unknown_share`, a crop leaves
out targets with their events, and reordering asks for nothing within the span.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.config import RetrievalSettings
from models.covisits import similar_items
from models.log import Log
from models.neighbours import FittedNeighbours

_SUBSTITUTES = 10  # most similar items of which one is drawn

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Reading:
    """What is read at each place of a window: the item `rows` int64[n], and which event's kind, `order` int64[n].

    Where `asked`, bool[n], is False, a later event is read too early: nothing may be predicted there.
    """

    rows: Rows
    order: Rows
    asked: NDArray[np.bool_]


class Augmentation:
    """Augments windows of a log as `settings.augmentation` says, each to the share `settings.augmentation_strength`."""

    def __init__(self, settings: RetrievalSettings, log: Log, items: int) -> None:
        self._way, self._strength = settings.augmentation, settings.augmentation_strength
        self._log, self._unknown = log, items
        self._similar: FittedNeighbours | None = None
        if self._way == "substitute":
            self._similar = similar_items(log, items, _SUBSTITUTES)

    def window(self, window: slice, rng: np.random.Generator) -> slice:
        """Return the window, or with `crop` a random part of it that is shorter by the strength."""
        size = window.stop - window.start
        if self._way != "crop" or size < 2:
            return window
        kept = max(1, round(size * (1 - self._strength)))
        start = window.start + int(rng.integers(0, size - kept + 1))
        return slice(start, start + kept)

    def read(self, window: slice, rng: np.random.Generator) -> Reading:
        """Return what is read of the window."""
        rows = self._log.rows[window].copy()
        size = len(rows)
        order, asked = np.arange(size), np.ones(size, dtype=np.bool_)
        if self._way == "mask":
            rows[rng.random(size) < self._strength] = self._unknown
        elif self._way == "reorder":
            span = round(size * self._strength)
            start = int(rng.integers(0, size - span + 1))
            shuffled = slice(start, start + span)
            order[shuffled] = rng.permutation(order[shuffled])
            rows = rows[order]
            # After the last place of the span all of it was read, and in whichever order, it came before.
            asked[start : max(start, start + span - 1)] = False
        elif self._similar is not None:
            self._substitute(self._similar, window, rows, rng)
        return Reading(rows, order, asked)

    def _substitute(self, similar: FittedNeighbours, window: slice, rows: Rows, rng: np.random.Generator) -> None:
        """Put similar items in the places of some; never one of the user's own, which may be what is asked for."""
        user = self._log.users[window.start]
        own = self._log.rows[self._log.starts[user] : self._log.starts[user + 1]]
        places = np.flatnonzero(rng.random(len(rows)) < self._strength)
        drawn = rng.integers(0, similar.rows.shape[1], len(places))
        found, there = similar.rows[rows[places], drawn], similar.weights[rows[places], drawn] > 0
        there &= ~np.isin(found, own)
        rows[places[there]] = found[there]
