"""The most used items, for everybody."""

from collections.abc import Sequence
from dataclasses import dataclass

from models.vocabulary import ItemRow
from services.recommend.candidates import most_used, usage
from services.recommend.filters import may_show
from services.recommend.live import Live
from streaming.ids import ItemId


@dataclass(frozen=True)
class Wanted:
    """What is asked for: up to `n` items that may be shown at `as_of`, ms, by their use in the `days` before."""

    n: int
    days: int
    as_of: int
    categories: Sequence[str]
    exclude: Sequence[ItemId]


def find_popular(live: Live, wanted: Wanted) -> list[tuple[ItemId, int]]:
    """Return the items with how often they were used, most used first, never one that was not."""
    allowed = may_show(live, wanted.as_of, wanted.exclude, wanted.categories)
    rows = most_used(live, allowed, wanted.as_of, wanted.days, wanted.n)
    uses = usage(live, rows, wanted.as_of, wanted.days)
    return [(live.rows.item_id(ItemRow(row)), count) for row, count in zip(rows.tolist(), uses.tolist(), strict=True)]
