"""A caller's list, ordered for a user: no filter, nothing explored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from models.scorer import Query
from services.recommend.live import Live
from services.recommend.pipeline import Ask, Slate, fallbacks_of, predicted
from services.recommend.ranker import Rank, Unranked
from services.recommend.state import State
from streaming.events import SlateItem
from streaming.ids import ItemId

GIVEN = "given"


@dataclass(frozen=True)
class Ordered:
    """The known items as a slate, best first, and those that neither the model nor the catalogue knows, as given."""

    slate: Slate
    unknown: Sequence[ItemId]


def order_given(live: Live, ask: Ask, state: State, given: Sequence[ItemId], rank: Rank) -> Ordered:
    """Return every item of `given` once, in the order of the surface's score; equal scores stay in the order given.

    What `rank` will not rank stays in the order given.
    """
    found = {item_id: live.rows.row(item_id) for item_id in given}
    known = {item_id: row for item_id, row in found.items() if row is not None}
    query = Query(history=state.history, user_features=state.features, as_of=ask.as_of)
    rows = np.array(list(known.values()), dtype=np.int64)
    missing: tuple[str, ...] = ()
    try:
        scores = rank(live, query, rows, predicted(live, ask.surface))
    except Unranked as reason:
        scores = -np.arange(len(rows), dtype=np.float32)
        missing = (reason.fallback,)
    ids = list(known)
    items = [
        SlateItem(
            item_id=ids[place], position=position, score=float(scores[place]), propensity=1.0, source=GIVEN, fixed=True
        )
        for position, place in enumerate(np.argsort(-scores, kind="stable").tolist())
    ]
    slate = Slate(
        items=items,
        fallbacks=(*fallbacks_of(live, ask.surface, state), *missing),
        model_version=live.model_version,
        candidates={GIVEN: len(items)},
        policy="ranked",
    )
    return Ordered(slate, [item_id for item_id, row in found.items() if row is None])
