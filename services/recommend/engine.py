"""The catalogue and the live state, and who may use them when.

Requests compute in the event loop's thread, one after another; the threads that follow the log change the state a few
records at a time, under the same lock. A thread for computing alone would have to share the interpreter with the event
loop for every request, and that cost more than it gave.
"""

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from features.popularity import DAY_MS, DayCounts, PopularityWindow
from models.scorer import Scorer
from models.vocabulary import ItemRow
from services.recommend.catalogue import Catalogue, Changes, Held
from services.recommend.followed import Followed, Offsets, Uses, event_key
from services.recommend.item_table import ItemTable
from services.recommend.live import Live
from services.recommend.ragged import joined_texts, texts_of
from streaming.consumer import Received
from streaming.events import Interaction
from streaming.ids import ItemId

T = TypeVar("T")

_CHUNK = 50  # records applied at once: requests wait meanwhile
_LATELY = 50_000  # interactions whose ids are remembered


class Engine:
    """Runs functions on the live state and keeps it up to date with the log."""

    def __init__(self) -> None:
        self._door, self._owned = threading.Lock(), threading.Lock()
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()
        self._catalogue = Catalogue()
        self._live = Live.build(None, (), PopularityWindow())
        self.laid_out = threading.Event()
        self.laid_out.set()
        self._folding = threading.Lock()
        self._previous_version: str | None = None
        # Keys of the newest interactions, oldest first: a plain dict would look for its first key past all that went.
        self._lately: OrderedDict[int, None] = OrderedDict()
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
        """Up to where the log was followed; read by a function that computes, it is what that computes on."""
        return Offsets(self._catalogue.offsets, dict(self._interaction_offsets))

    async def compute(self, function: Callable[[Live], T]) -> T:
        """Run a function on the live state, once it is its turn.

        Of all that wait one runs, then the event loop looks at its sockets: whoever is to be told to come again later
        is not kept waiting by those who are served.
        """
        loop = asyncio.get_running_loop()
        turn = self._turns.get(loop) or self._turns.setdefault(loop, asyncio.Lock())
        await turn.acquire()
        try:
            return self._owning(lambda: function(self._live))
        finally:
            # Not before the loop comes round: released at once, all who are ready would compute in one go.
            loop.call_soon(turn.release)

    def gather(self) -> None:
        """Until the next `swap`, which sets `laid_out`, only keep items: they are laid out once, all together."""
        self.laid_out.clear()

    def apply_items(self, records: Sequence[Received]) -> None:
        """Apply records of the items topic; called by the thread that reads it."""
        self._in_chunks(records, self._apply_items)

    def apply_interactions(self, records: Sequence[Received]) -> None:
        """Apply records of the interactions topic; called by the thread that reads it."""
        self._in_chunks(records, self._apply_interactions)

    def forget_interactions(self) -> None:
        """Start the popularity anew, before the interactions are read from their beginning again."""
        self._owning(self._forget_interactions)

    def swap(self, scorer: Scorer | None) -> None:
        """Put another model, or none, in place.

        It is laid out beside the old one in the calling thread, then exchanged in one step.
        """
        with self._folding:
            held: Held = self._owning(self._catalogue.held)
            table = held.folded()
            laid_out = Live.laid_out(scorer, table, PopularityWindow())
            self._owning(self._exchange, laid_out, held, table)

    def restore_items(self, followed: Followed) -> None:
        """Go on from a catalogue that was kept; called before any record of the items is applied, after `gather`."""
        self._owning(self._catalogue.restore, followed.table, followed.offsets.catalogue)

    def restore_interactions(self, followed: Followed) -> None:
        """Go on from uses that were kept, once the catalogue is laid out and before any interaction is applied."""
        self._owning(self._restore_interactions, followed)

    def keep(self, write: Callable[[Followed], ItemTable | None]) -> None:
        """Have `write` keep what following the log has come to; the catalogue then rests on the table it returns."""
        with self._folding:
            held, live, uses, offsets = self._owning(self._now)
            table = write(Followed(held.folded(), _by_id(live, *uses), offsets))
            if table is not None:
                self._owning(self._catalogue.fold, held, table)

    def _owning(self, use: Callable[..., T], *inputs: Any) -> T:
        # Who waits holds the door, so that a thread with many changes to make cannot come back in before it.
        with self._door:
            self._owned.acquire()
        try:
            return use(*inputs)
        finally:
            self._owned.release()

    def _in_chunks(self, records: Sequence[Received], apply: Callable[[Sequence[Received]], None]) -> None:
        for start in range(0, len(records), _CHUNK):
            self._owning(apply, records[start : start + _CHUNK])

    def _apply_items(self, records: Sequence[Received]) -> None:
        for record in records:
            change = self._catalogue.apply(record)
            if change is not None and self.laid_out.is_set():
                self._live.change(change)

    def _apply_interactions(self, records: Sequence[Received]) -> None:
        self._interaction_offsets |= {str(record.partition): record.offset + 1 for record in records}
        self._live.observe(
            record.event
            for record in records
            if isinstance(record.event, Interaction)
            and record.event.happened_at <= record.appended_at + DAY_MS  # else it would end the days that count
            and self._is_first(record.event.event_id)
        )

    def _is_first(self, event_id: str) -> bool:
        """Whether an event was not applied lately: what a client sends again counts once."""
        key = event_key(event_id)
        if key in self._lately:
            return False
        self._lately[key] = None
        if len(self._lately) > _LATELY:
            self._lately.popitem(last=False)
        return True

    def _now(self) -> tuple[Held, Live, tuple[DayCounts, list[int]], Offsets]:
        return self._catalogue.held(), self._live, (self._live.popularity.by_day(), list(self._lately)), self.offsets

    def _restore_interactions(self, followed: Followed) -> None:
        uses, live = followed.uses, self._live
        rows = np.array([_row(live, text) for text in texts_of(uses.item_ids)], dtype=np.int64)
        rows = rows[uses.counts.rows]
        known = rows >= 0
        live.popularity.add(DayCounts(rows[known], uses.counts.days[known], uses.counts.counts[known]))
        self._lately = OrderedDict.fromkeys(uses.lately.tolist())
        self._interaction_offsets = dict(followed.offsets.interactions)

    def _forget_interactions(self) -> None:
        self._lately.clear()
        self._interaction_offsets.clear()
        self._live = self._live.with_popularity(PopularityWindow())

    def _exchange(self, laid_out: Live, held: Held, table: ItemTable) -> None:
        since: Changes = self._catalogue.fold(held, table)
        for item_id, item in since.items():
            laid_out.change(item_id if item is None else item)
        self._previous_version = self._live.model_version
        self._live = laid_out.with_popularity_of(self._live)
        self.laid_out.set()


def _row(live: Live, item_id: str) -> int:
    row = live.rows.row(ItemId(item_id))
    return -1 if row is None else row


def _by_id(live: Live, counts: DayCounts, lately: Sequence[int]) -> Uses:
    used, places = np.unique(counts.rows, return_inverse=True)
    item_ids = joined_texts(live.rows.item_id(ItemRow(row)) for row in used.tolist())
    return Uses(item_ids, replace(counts, rows=places.astype(np.int32)), np.array(lately, dtype=np.uint64))
