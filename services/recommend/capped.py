"""Drawing under caps: slot by slot, each over what is still allowed, so that every probability is exact.

A slot for which nothing within the caps is left is filled as if there were none: a full slate matters more.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommend.caps import Groups, Tally
from services.recommend.contest import Contest, Drawn, Policy
from services.recommend.surfaces import Exploration

Weights = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """How many slots there are, how many of the last go to unproven rows, and by which policy they are filled."""

    slots: int
    fresh: int
    policy: Policy
    exploration: Exploration


def draw_capped(contest: Contest, groups: Groups, plan: Plan, rng: np.random.Generator | None) -> Drawn:
    """Fill the slots from the rows that are ranked; the pinned rows count towards the caps from the start.

    Only the policy `ranked` does without `rng`.
    """
    draw = _Draw(contest, Tally(groups, contest.ranked, contest.pinned_rows), rng)
    exploration, top = plan.exploration, plan.slots - plan.fresh
    uniform = np.ones(len(contest.ranked))
    unproven = np.isin(contest.ranked, contest.unproven).astype(np.float64)
    weights: Weights | None = None
    for slot in range(min(plan.slots, len(contest.ranked))):
        if plan.policy == "uniform":
            draw.next(uniform)
        elif slot >= top:
            draw.next(unproven)
        elif plan.policy == "ranked" or exploration.temperature == 0 or slot < exploration.fixed_slots:
            draw.first()
        else:
            if weights is None:
                weights = draw.rank_weights(exploration.temperature, max(exploration.pool, top))
            draw.next(weights)
    return draw.drawn()


class _Draw:
    """The slots so far; rows are named by their place in the ranked order."""

    def __init__(self, contest: Contest, tally: Tally, rng: np.random.Generator | None) -> None:
        self._ranked = contest.ranked
        self._tally = tally
        self._rng = rng
        self._left = np.ones(len(contest.ranked), dtype=np.bool_)
        self._chosen: list[tuple[int, float, bool]] = []
        self._exceeded = False

    def rank_weights(self, temperature: float, pool: int) -> Weights:
        """Return rank^(-1/temperature) for the best `pool` rows that are left, 0 for all others."""
        weights = np.zeros(len(self._ranked))
        best = np.flatnonzero(self._left)[:pool]
        weights[best] = np.arange(1, len(best) + 1, dtype=np.float64) ** (-1.0 / temperature)
        return weights

    def first(self) -> None:
        """Take the best row that is allowed."""
        self._take(int(np.argmax(self._allowed())), 1.0, True)

    def next(self, weights: Weights) -> None:
        """Take one of the allowed rows that have a weight by chance, or the best allowed one when none of them has."""
        sums = np.cumsum(weights * self._allowed())
        total = sums[-1]
        if total == 0 or self._rng is None:
            self.first()
            return
        # The first place whose sum exceeds the number has a weight; rounding may make the number the total itself.
        below_total = min(self._rng.random() * total, np.nextafter(total, 0.0))
        place = int(np.searchsorted(sums, below_total, side="right"))
        self._take(place, float(weights[place] / total), False)

    def drawn(self) -> Drawn:
        """Return what was taken."""
        places, propensities, fixed = zip(*self._chosen, strict=True) if self._chosen else ((), (), ())
        rows = self._ranked[np.array(places, dtype=np.int64)]
        return Drawn(rows, np.array(propensities), np.array(fixed, dtype=np.bool_), exceeded=self._exceeded)

    def _allowed(self) -> NDArray[np.bool_]:
        within: NDArray[np.bool_] = self._left & self._tally.within
        if within.any():
            return within
        self._exceeded = True
        return self._left

    def _take(self, place: int, propensity: float, fixed: bool) -> None:
        self._left[place] = False
        self._tally.add(place)
        self._chosen.append((place, propensity, fixed))
