"""The last step that changes order: exploration, with the probability of every choice it makes.

Slots are drawn one after another without replacement, each with weight rank^(-1/temperature) among what is left: the
Plackett-Luce model (R. L. Plackett, The Analysis of Permutations, 1975) over ranks, so that a temperature explores
equally much whatever the scale of a model's scores. The draw uses the Gumbel trick: adding independent Gumbel noise to
the logarithms of the weights and sorting gives exactly that order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommend.surfaces import Exploration

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Drawn:
    """Rows from the top slot down, each with the probability of this row here given the rows above it."""

    rows: Rows
    propensities: NDArray[np.float64]


def draw(ranked: Rows, unproven: Rows, n: int, exploration: Exploration, rng: np.random.Generator | None) -> Drawn:
    """Fill up to `n` slots from `ranked`, best first; the last slots may go to `unproven` items.

    Without `rng` nothing is explored: the ranked order is shown and every probability is 1.
    """
    if rng is None:
        return _in_order(ranked[:n])
    fresh = min(exploration.new_slots, n, len(unproven)) if n >= exploration.new_slots_from else 0
    top = _plackett_luce(ranked, n - fresh, exploration, rng)
    if fresh == 0:
        return top
    waiting = np.setdiff1d(unproven, top.rows)
    chosen = rng.permutation(waiting)[:fresh]
    uniform = 1.0 / (len(waiting) - np.arange(len(chosen), dtype=np.float64))
    slots = _joined(top, Drawn(chosen, uniform))
    if len(slots.rows) == n:
        return slots
    # Every unproven item stands in the slate already: the ranked order fills what their slots leave.
    return _joined(slots, _in_order(ranked[~np.isin(ranked, slots.rows)][: n - len(slots.rows)]))


def _plackett_luce(ranked: Rows, n: int, exploration: Exploration, rng: np.random.Generator) -> Drawn:
    if exploration.temperature == 0:
        return _in_order(ranked[:n])
    fixed = _in_order(ranked[: min(exploration.fixed_slots, n)])
    pool = ranked[len(fixed.rows) : len(fixed.rows) + max(exploration.pool, n)]
    logits = -np.log(np.arange(1, len(pool) + 1, dtype=np.float64)) / exploration.temperature
    order = np.argsort(-(logits + rng.gumbel(size=len(pool))))
    weights = np.exp(logits[order])
    left = np.cumsum(weights[::-1])[::-1]  # summed from the end, so that small remainders keep their precision
    count = n - len(fixed.rows)
    return _joined(fixed, Drawn(pool[order][:count], (weights / left)[:count]))


def _in_order(rows: Rows) -> Drawn:
    return Drawn(rows, np.ones(len(rows)))


def _joined(first: Drawn, then: Drawn) -> Drawn:
    return Drawn(np.concatenate((first.rows, then.rows)), np.concatenate((first.propensities, then.propensities)))
