"""Why an item stands on a slate, in words: its source, and the item of the history that speaks most for it."""

from collections.abc import Mapping, Sequence

from services.recommend.candidates import Need
from services.recommend.live import Live
from streaming.events import SlateItem
from streaming.ids import ItemId

_BY_HISTORY = ("sequence", "co_visited")
_PLAIN = {
    "trending": "popular this week",
    "popular": "popular this month",
    "new": "new",
    "catalogue": "from the catalogue",
}


def reasons(live: Live, need: Need, items: Sequence[SlateItem]) -> list[str]:
    """Return for each of `items` why it is there. Items are named by id: titles are not in this process."""
    drivers = _drivers(live, need, [ItemId(item.item_id) for item in items if item.source in _BY_HISTORY])
    return [drivers.get(ItemId(item.item_id)) or _by_source(live, need, item) for item in items]


def _drivers(live: Live, need: Need, item_ids: Sequence[ItemId]) -> Mapping[ItemId, str]:
    """Return what ties each of the items to an item of the history: what others chose after it, or else likeness."""
    if live.scorer is None or not item_ids:
        return {}
    rows = live.rows_of(item_ids)
    before, alike = live.scorer.came_before(need.query, rows), live.scorer.most_alike(need.query, rows)
    found = {}
    for item_id, followed, resembled in zip(item_ids, before, alike, strict=True):
        if followed is not None:
            found[item_id] = f"often chosen after {followed}"
        elif resembled is not None:
            found[item_id] = f"goes with {resembled}"
    return found


def _by_source(live: Live, need: Need, item: SlateItem) -> str:
    if item.source == "category":
        row = live.rows.row(ItemId(item.item_id))
        own = () if row is None else live.columns.categories(row)
        category = next((one for one in own if one in need.categories), own[0] if own else None)
        return "popular in its category" if category is None else f"popular in {category}"
    return _PLAIN.get(item.source, f"from {item.source}")
