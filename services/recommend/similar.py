"""Items like an item: by the model's vectors, then by shared categories, then by use."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import ItemRow
from services.recommend.candidates import usage
from services.recommend.filters import NO_FILTERS, may_show
from services.recommend.live import Live
from services.recommend.pipeline import NO_MODEL
from services.recommend.surfaces import Filters
from streaming.ids import ItemId


@dataclass(frozen=True)
class Like:
    """What is asked for: items like `item_id` that may be shown at `as_of`, ms, as the filters ask for items."""

    item_id: ItemId
    n: int
    as_of: int
    categories: Sequence[str]
    exclude: Sequence[ItemId]
    filters: Filters = NO_FILTERS


@dataclass(frozen=True)
class Likeness:
    """An item with its score and what it was found by."""

    item_id: ItemId
    score: float
    source: str


@dataclass(frozen=True)
class Similar:
    """The items found, most similar first."""

    items: Sequence[Likeness]
    fallbacks: tuple[str, ...]
    model_version: str | None


def find_similar(live: Live, like: Like) -> Similar | None:
    """Return up to `n` items like one, as many as may be shown; None when the catalogue does not have the item."""
    row = live.rows.row(like.item_id)
    if row is None or not live.columns.has(row):
        return None
    allowed = may_show(live, like.as_of, [like.item_id, *like.exclude], like.categories, like.filters)
    found: dict[int, Likeness] = {}
    if live.scorer is not None:
        near = live.scorer.similar(row, allowed.to_ask_for(like.n))
        shown = np.isin(near.rows, allowed.rows)
        _add(live, found, near.rows[shown][: like.n], near.scores[shown][: like.n], "similar")
    if len(found) < like.n:
        kin = allowed.among(live.columns.in_any(live.columns.categories(row)))
        _add_by_use(live, found, kin, like, "category")
    if len(found) < like.n:
        _add_by_use(live, found, allowed.rows, like, "popular")
    return Similar(list(found.values()), () if live.scorer is not None else (NO_MODEL,), live.model_version)


def _add_by_use(live: Live, found: dict[int, Likeness], rows: NDArray[np.int64], like: Like, source: str) -> None:
    used = usage(live, rows, like.as_of, 30)
    order = np.argsort(-used, kind="stable")
    _add(live, found, rows[order][: like.n], np.zeros(like.n, dtype=np.float32), source)
    while len(found) > like.n:
        found.popitem()


def _add(
    live: Live, found: dict[int, Likeness], rows: NDArray[np.int64], scores: NDArray[np.float32], source: str
) -> None:
    for row, score in zip(rows.tolist(), scores.tolist(), strict=False):
        found.setdefault(row, Likeness(live.rows.item_id(ItemRow(row)), score, source))
