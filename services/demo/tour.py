"""A tour of the API: who gets recommendations, and what a click and a new item change."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from services.demo.client import ApiClient, items_of
from services.demo.freshness import Change, NotFresh, click_and_wait
from streaming.dataset import ItemRecord
from streaming.ids import ItemId, UserId

_N = 10
_NEW_ITEM = ItemId("demo-new-item")
_NEW_ITEM_LIMIT_S = 10.0
_CLICKS_TRIED = 5
_CHAMPION_LIMIT_S = 60.0


@dataclass(frozen=True)
class Stop:
    """One answer of the tour: who asked, the first titles, and what was replaced by a fallback."""

    who: str
    titles: list[str]
    sources: list[str]
    fallbacks: list[str]


@dataclass(frozen=True)
class Tour:
    """What the tour saw."""

    stops: list[Stop]
    change: Change
    new_item_ms: float


def take_tour(client: ApiClient, user_id: UserId, items: dict[ItemId, ItemRecord], clock: Callable[[], float]) -> Tour:
    """Ask for a user with history, a guest, an unknown user and a new item, then click as the user with history.

    Raises NotFresh when the click or the new item changes nothing in time.
    """
    known = client.recommend(user_id=user_id, n=_N)
    shown = items_of(known)
    guest = client.recommend(events=[{"item_id": item, "kind": "click"} for item in shown[:3]], n=_N)
    unknown = client.recommend(user_id="nobody has seen this user", n=_N)
    new_item_ms, similar = _add_new_item(client, items[shown[0]], clock)
    client.remove_item(_NEW_ITEM)
    stops = [
        _stop(f"user {user_id}, who has a history", known, items),
        _stop("a guest after three clicks", guest, items),
        _stop("an unknown user", unknown, items),
        _stop("similar to a new item", similar, items),
    ]
    return Tour(stops, _click(client, user_id, clock), new_item_ms)


def first_recommendation(client: ApiClient, user_id: UserId, model_version: str) -> dict[str, Any]:
    """Return the first answer of the new champion; raises NotFresh when it does not come or is not personalised."""
    started = time.monotonic()
    while True:
        answer = client.recommend(user_id=user_id, n=_N)
        if answer["model_version"] == model_version:
            break
        if time.monotonic() - started > _CHAMPION_LIMIT_S:
            raise NotFresh(f"the recommender did not take model {model_version!r} within {_CHAMPION_LIMIT_S:.0f} s")
        time.sleep(0.05)
    if answer["fallbacks"]:
        raise NotFresh(f"the first answer for user {user_id!r} is not personalised: {answer['fallbacks']}")
    return answer


def _click(client: ApiClient, user_id: UserId, clock: Callable[[], float]) -> Change:
    """Click down the slate until a click reorders the rest; a click that only removes its item proves less."""
    for position in range(_CLICKS_TRIED):
        change = click_and_wait(client, user_id, clock, position)
        if change.reordered:
            return change
    raise NotFresh(f"{_CLICKS_TRIED} clicks of user {user_id!r} removed the clicked items and reordered nothing")


def _add_new_item(client: ApiClient, like: ItemRecord, clock: Callable[[], float]) -> tuple[float, dict[str, Any]]:
    """Add an item with another one's content; returns the ms until it is recommended, and items like it."""
    client.add_item(
        item_id=_NEW_ITEM,
        title=f"{like.title} II",
        categories=list(like.categories),
        attributes=dict(like.attributes),
    )
    accepted = clock()
    while clock() - accepted < _NEW_ITEM_LIMIT_S:
        if _NEW_ITEM in items_of(client.recommend(user_id="somebody new", n=50)):
            return (clock() - accepted) * 1000, client.similar(item_id=_NEW_ITEM, n=_N)
        time.sleep(0.01)
    raise NotFresh(f"a new item was in no slate within {_NEW_ITEM_LIMIT_S:.0f} s")


def _stop(who: str, answer: dict[str, Any], items: dict[ItemId, ItemRecord]) -> Stop:
    shown = answer["slate"][:5]
    titles = [items[ItemId(item["item_id"])].title if item["item_id"] in items else item["item_id"] for item in shown]
    return Stop(who, titles, sorted({item["source"] for item in answer["slate"]}), answer["fallbacks"])
