"""The compute thread and what it owns: the catalogue and the live state.

Everything that reads or changes them runs in it, one after another, so nothing needs a lock and the event loop stays
free for input and output.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from features.popularity import PopularityWindow
from models.scorer import Scorer
from services.recommend.catalogue import Catalogue
from services.recommend.live import Live
from streaming.consumer import Received
from streaming.events import Interaction, ItemUpserted
from streaming.ids import ItemId

T = TypeVar("T")

_CHUNK = 500  # records applied at once, so that requests get their turn between
_LATELY = 50_000  # interactions whose ids are remembered


@dataclass(frozen=True)
class Offsets:
    """Up to where the catalogue and the popularity follow their topics: the next offset of each partition."""

    catalogue: dict[str, int]
    interactions: dict[str, int]


class Engine:
    """Runs functions on the live state and keeps it up to date with the log."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._catalogue = Catalogue()
        self._live = Live.build(None, (), PopularityWindow())
        self._asked: deque[tuple[Callable[[Live], Any], asyncio.Future[Any]]] = deque()
        self._answering = False
        self._previous_version: str | None = None
        self._lately: dict[str, None] = {}  # ids of the newest interactions, oldest first
        self._interaction_offsets: dict[str, int] = {}

    @property
    def model_version(self) -> str | None:
        """The loaded model's version."""
        return self._live.model_version

    @property
    def previous_version(self) -> str | None:
        """The version of the model that the loaded one replaced in this process."""
        return self._previous_version

    @property
    def trained_until(self) -> int | None:
        """The end of what the loaded model was trained on, ms."""
        return None if self._live.scorer is None else self._live.scorer.trained_until

    @property
    def offsets(self) -> Offsets:
        """Up to where the log was followed; read by a function in the compute thread it is what that computes on."""
        return Offsets(self._catalogue.offsets, dict(self._interaction_offsets))

    async def compute(self, function: Callable[[Live], T]) -> T:
        """Run a function on the live state in the compute thread, not at all if nobody waits for it any more."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._asked.append((function, answer))
        if not self._answering:
            self._answering = True
            self._thread.submit(self._answer)
        return await answer

    def apply_items(self, records: Sequence[Received]) -> None:
        """Apply records of the items topic; called by the thread that reads it."""
        self._in_chunks(records, self._apply_items)

    def apply_interactions(self, records: Sequence[Received]) -> None:
        """Apply records of the interactions topic; called by the thread that reads it."""
        self._in_chunks(records, self._apply_interactions)

    def forget_interactions(self) -> None:
        """Start the popularity anew, before the interactions are read from their beginning again."""
        self._thread.submit(self._forget_interactions).result()

    def swap(self, scorer: Scorer) -> None:
        """Put another model in place: laid out beside the old one in the calling thread, then exchanged in one step."""
        items = self._thread.submit(self._catalogue.snapshot).result()
        laid_out = Live.build(scorer, items.values(), PopularityWindow())
        self._thread.submit(self._exchange, laid_out, items).result()

    def stop(self) -> None:
        """End the thread after what it is doing."""
        self._thread.shutdown(cancel_futures=True)

    def _answer(self) -> None:
        """Answer whatever was asked until now: handing over costs much, and once for all of that is enough."""
        for _ in range(len(self._asked)):
            function, answer = self._asked.popleft()
            if not answer.done():
                _settle(answer, function, self._live)
        self._answering = False
        if self._asked:  # by who saw that we were still answering
            self._answering = True
            self._thread.submit(self._answer)

    def _in_chunks(self, records: Sequence[Received], apply: Callable[[Sequence[Received]], None]) -> None:
        for start in range(0, len(records), _CHUNK):
            self._thread.submit(apply, records[start : start + _CHUNK]).result()

    def _apply_items(self, records: Sequence[Received]) -> None:
        for record in records:
            change = self._catalogue.apply(record)
            if isinstance(change, ItemUpserted):
                self._live.put(change)
            elif change is not None:
                self._live.remove(change)

    def _apply_interactions(self, records: Sequence[Received]) -> None:
        self._interaction_offsets |= {str(record.partition): record.offset + 1 for record in records}
        self._live.observe(
            record.event
            for record in records
            if isinstance(record.event, Interaction) and self._is_first(record.event.event_id)
        )

    def _is_first(self, event_id: str) -> bool:
        """Whether an event was not applied lately: what a client sends again counts once."""
        if event_id in self._lately:
            return False
        self._lately[event_id] = None
        if len(self._lately) > _LATELY:
            del self._lately[next(iter(self._lately))]
        return True

    def _forget_interactions(self) -> None:
        self._lately.clear()
        self._interaction_offsets.clear()
        self._live = self._live.with_popularity(PopularityWindow())

    def _exchange(self, laid_out: Live, built: Mapping[ItemId, ItemUpserted]) -> None:
        now = self._catalogue.snapshot()
        for item_id, item in now.items():
            if built.get(item_id) is not item:
                laid_out.put(item)
        for item_id in built.keys() - now.keys():
            laid_out.remove(item_id)
        self._previous_version = self._live.model_version
        self._live = laid_out.with_popularity_of(self._live, now)


def _settle(answer: asyncio.Future[T], function: Callable[[Live], T], live: Live) -> None:
    """Run a function for who waits in an event loop, which learns of what it returns or raises."""
    try:
        found = function(live)
    except Exception as error:  # noqa: BLE001 - raised again where it is awaited
        _tell(answer, answer.set_exception, error)
    else:
        _tell(answer, answer.set_result, found)


def _tell(answer: asyncio.Future[Any], settle: Callable[[Any], None], outcome: object) -> None:
    def deliver() -> None:
        if not answer.done():
            settle(outcome)

    answer.get_loop().call_soon_threadsafe(deliver)
