"""The last step that changes order: exploration, with the probability of every choice it makes.

Slots are drawn one after another without replacement, each with weight rank^(-1/temperature) among what is left: the
Plackett-Luce model (R. L. Plackett, The Analysis of Permutations, 1975) over ranks, so that a temperature explores
equally much whatever the scale of a model's scores. Without caps the draw uses the Gumbel trick: adding independent
Gumbel noise to the logarithms of the weights and sorting gives exactly that order. With caps `capped.py` draws.

A share of the slates may be drawn uniformly over the candidates instead. Which policy is executed is decided first, by
the same generator, and logged. Every probability is that of the row in this slot given the rows above it under the
policy that was executed, pins and caps included; it is not that of the mixture of the policies. Slots that no draw
decides are marked and carry 1.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.recommend.capped import Plan, draw_capped
from services.recommend.contest import Contest, Drawn, Policy
from services.recommend.surfaces import Exploration

Rows = NDArray[np.int64]


def draw(contest: Contest, n: int, exploration: Exploration, rng: np.random.Generator | None) -> Drawn:
    """Fill up to `n` slots from the ranked rows, best first; the last slots may go to unproven ones.

    Without `rng` nothing is explored: the ranked order is shown, as far as caps allow, and every probability is 1.
    """
    others, slots = contest.unpinned(), n - len(contest.pinned)
    policy = _policy(exploration, rng)
    wants_fresh = policy == "explored" and n >= exploration.new_slots_from
    fresh = min(exploration.new_slots, slots, len(others.unproven)) if wants_fresh else 0
    if others.groups is not None:
        plan = Plan(slots, fresh, policy, exploration)
        drawn = draw_capped(others, others.groups, plan, rng)
    elif rng is None or policy == "ranked":
        drawn = Drawn.in_order(others.ranked[:slots])
    elif policy == "uniform":
        drawn = _uniform(others.ranked, slots, rng)
    else:
        drawn = _explored(others, slots, fresh, exploration, rng)
    return replace(drawn.with_pins(contest.pinned), policy=policy)


def _policy(exploration: Exploration, rng: np.random.Generator | None) -> Policy:
    if rng is None:
        return "ranked"
    if exploration.uniform_share > 0 and rng.random() < exploration.uniform_share:
        return "uniform"
    return "explored" if exploration.temperature > 0 or exploration.new_slots > 0 else "ranked"


def _explored(contest: Contest, n: int, fresh: int, exploration: Exploration, rng: np.random.Generator) -> Drawn:
    top = _plackett_luce(contest.ranked, n - fresh, exploration, rng)
    if fresh == 0:
        return top
    waiting = contest.unproven[~np.isin(contest.unproven, top.rows)]
    slots = top.then(_uniform(waiting, fresh, rng))
    if len(slots.rows) == n:
        return slots
    # Every unproven item stands in the slate already: the ranked order fills what their slots leave.
    left = contest.ranked[~np.isin(contest.ranked, slots.rows)]
    return slots.then(Drawn.in_order(left[: n - len(slots.rows)]))


def _uniform(rows: Rows, n: int, rng: np.random.Generator) -> Drawn:
    chosen = rng.permutation(rows)[:n]
    return Drawn.by_chance(chosen, 1.0 / (len(rows) - np.arange(len(chosen), dtype=np.float64)))


def _plackett_luce(ranked: Rows, n: int, exploration: Exploration, rng: np.random.Generator) -> Drawn:
    if exploration.temperature == 0:
        return Drawn.in_order(ranked[:n])
    fixed = Drawn.in_order(ranked[: min(exploration.fixed_slots, n)])
    pool = ranked[len(fixed.rows) : len(fixed.rows) + max(exploration.pool, n)]
    logits = -np.log(np.arange(1, len(pool) + 1, dtype=np.float64)) / exploration.temperature
    order = np.argsort(-(logits + rng.gumbel(size=len(pool))))
    weights = np.exp(logits[order])
    left = np.cumsum(weights[::-1])[::-1]  # summed from the end, so that small remainders keep their precision
    count = n - len(fixed.rows)
    return fixed.then(Drawn.by_chance(pool[order][:count], (weights / left)[:count]))
