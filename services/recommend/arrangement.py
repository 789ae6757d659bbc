"""From scored candidates to slots: boosts, then diversity, then pins and caps within which slots are drawn."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vocabulary import ItemRow
from services.recommend.boosts import Boosted, boosted
from services.recommend.candidates import Candidates
from services.recommend.caps import groups_of
from services.recommend.contest import Contest, Drawn, Policy
from services.recommend.diversity import diversified
from services.recommend.filters import Allowed
from services.recommend.live import Live
from services.recommend.slate import draw
from services.recommend.surfaces import Surface
from streaming.events import SlateItem
from streaming.ids import ItemId

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

PIN = "pin"


@dataclass(frozen=True)
class Frame:
    """What a slate is put in: a surface's rules, `n` slots, the draw's seed, if any, and the rows pinned to slots.

    A later page of a list is a slate of its own whose top slot has the position `first` in the list.
    """

    surface: Surface
    n: int
    seed: int | None
    pinned: Mapping[int, int]
    first: int = 0

    def with_pins(self, candidates: Candidates) -> Candidates:
        """Return the candidates with the pinned rows among them."""
        if not self.pinned:
            return candidates
        return candidates.including(np.array(list(self.pinned.values()), dtype=np.int64), PIN)


@dataclass(frozen=True)
class Arranged:
    """The items shown, top first, the policy that drew them, and whether caps gave way to a full slate."""

    items: list[SlateItem]
    policy: Policy
    exceeded: bool


def pinned(live: Live, surface: Surface, positions: range, allowed: Allowed, taken: Rows) -> dict[int, int]:
    """Return the surface's pinned rows by slot, the first of `positions` being slot 0.

    They are those that may be shown, are not `taken` by an earlier page, and whose position is among `positions`.
    """
    found = {}
    for pin in surface.pins:
        row = live.rows.row(ItemId(pin.item_id))
        if row is None or pin.position not in positions or row in taken:
            continue
        if row < len(allowed.mask) and allowed.mask[row]:
            found[pin.position - positions.start] = int(row)
    return found


def arrange(live: Live, frame: Frame, candidates: Candidates, scores: Scores) -> Arranged:
    """Fill the slots from candidates, the pinned ones among them, and their scores, float32[candidates]."""
    surface = frame.surface
    boost = boosted(live.columns, live.columns.best_first(candidates.rows, scores), surface.boosts)
    ranked = boost.rows
    if surface.diversity is not None and live.scorer is not None:
        ranked = diversified(ranked, live.scorer.item_vectors(ranked[: surface.diversity.pool]), surface.diversity)
    unproven = live.unproven.among(candidates.rows)
    contest = Contest(ranked, unproven, frame.pinned, groups_of(live.columns, candidates.rows, surface.caps))
    rng = None if frame.seed is None else np.random.default_rng(frame.seed)
    drawn = draw(contest, frame.n, surface.exploration, rng)
    rules = _rules(drawn, boost, frame.pinned)
    items = _items(live, candidates, scores, drawn, rules)
    if frame.first:
        items = [msgspec.structs.replace(item, position=frame.first + item.position) for item in items]
    return Arranged(items, drawn.policy, drawn.exceeded)


def _rules(drawn: Drawn, boost: Boosted, pins: Mapping[int, int]) -> dict[int, list[str]]:
    """Return the names of the rules that moved a row, for each row that one moved."""
    rules = {row: [PIN] for row in pins.values()}
    if boost.moved:
        for row in drawn.rows.tolist():
            rules[row] = [*rules.get(row, []), *(f"boost:{name}" for name in boost.names(row))]
    return rules


def _items(
    live: Live, candidates: Candidates, scores: Scores, drawn: Drawn, rules: Mapping[int, list[str]]
) -> list[SlateItem]:
    at = np.searchsorted(candidates.rows, drawn.rows)
    return [
        SlateItem(
            item_id=live.rows.item_id(ItemRow(row)),
            position=position,
            score=score,
            propensity=propensity,
            source=candidates.names[source],
            fixed=fixed,
            rules=rules.get(row, []),
        )
        for position, (row, score, propensity, source, fixed) in enumerate(
            zip(
                drawn.rows.tolist(),
                scores[at].tolist(),
                drawn.propensities.tolist(),
                candidates.sources[at].tolist(),
                drawn.fixed.tolist(),
                strict=True,
            )
        )
    ]
