"""How long a click takes to change what is recommended next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.demo.client import ApiClient, items_of
from services.recommend.surfaces import PROBE
from streaming.errors import FlywheelError
from streaming.ids import ItemId, UserId

_N = 20
_TRIES = 5  # a busy machine may miss a deadline now and then, and such a slate is a fallback's


class NotFresh(FlywheelError):
    """A click did not change the next slate in time, or the slate changed without one."""


@dataclass(frozen=True)
class Change:
    """One click and the slates around it; `milliseconds` from its acceptance until another slate was answered."""

    user_id: UserId
    clicked: ItemId
    before: Sequence[ItemId]
    after: Sequence[ItemId]
    milliseconds: float

    @property
    def reordered(self) -> bool:
        """Whether the rest of the slate changed too, and the clicked item is not just gone."""
        rest = [item for item in self.before if item != self.clicked]
        return list(self.after[: len(rest)]) != rest


@dataclass(frozen=True)
class Freshness:
    """The changes that many clicks made."""

    changes: Sequence[Change]

    def milliseconds(self, percentile: float) -> float:
        """Return a percentile of the clicks' milliseconds."""
        return float(np.percentile([change.milliseconds for change in self.changes], percentile))


def click_and_wait(
    client: ApiClient, user_id: UserId, clock: Callable[[], float], position: int = 0, limit_s: float = 10.0
) -> Change:
    """Click the item at `position` of a user's slate and ask until the slate is another; `clock` in seconds.

    Clicks go to the probe surface, which explores nothing and which training leaves out. Raises NotFresh when the slate
    already changes without a click, or does not change within `limit_s`.
    """
    answer = _settled(client, user_id)
    before = items_of(answer)
    clicked = before[position]
    client.send_event(
        user_id=user_id,
        item_id=clicked,
        kind="click",
        surface=PROBE,
        request_id=answer["request_id"],
        position=position,
    )
    accepted = clock()
    while True:
        after = items_of(client.recommend(user_id=user_id, n=_N, surface=PROBE))
        answered = clock()
        if after != before:
            return Change(user_id, clicked, before, after, (answered - accepted) * 1000)
        if answered - accepted > limit_s:
            raise NotFresh(f"a click of user {user_id!r} changed nothing within {limit_s:.0f} s")


def _settled(client: ApiClient, user_id: UserId) -> dict[str, Any]:
    """Return an answer whose slate is that of the answer before."""
    before: Sequence[ItemId] | None = None
    for _ in range(_TRIES):
        answer = client.recommend(user_id=user_id, n=_N, surface=PROBE)
        if items_of(answer) == before:
            return answer
        before = items_of(answer)
    raise NotFresh(f"the slate of user {user_id!r} changes without a click, so a change would prove nothing")


def measure_freshness(
    client: ApiClient, users: Sequence[UserId], clock: Callable[[], float], progress: Callable[[int], None]
) -> Freshness:
    """Let each user click once, one after another."""
    changes = []
    for user_id in users:
        changes.append(click_and_wait(client, user_id, clock))
        progress(1)
    return Freshness(changes)
