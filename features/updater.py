"""The history updater: interactions from Kafka into the users' histories, the one writer of that view.

A history is merged by event time and written with a version of its own: the append time of its newest record, which
Kafka never lets go back within a partition, and always above the stored one. An updater that lost its partition in a
rebalance without noticing therefore does not overwrite the new owner: Feast skips versions that are not newer, and what
was skipped is seen when the histories are read back, merged anew and written again. Only one that stalls between
Feast's reading of the versions and its writing, for as long as the group waits for it, may: Feast does not compare
and set. `flywheel rebuild online` mends that.

Nothing that the erasure ledger drops gets in: the ledger is asked after every write too, and what was written for a
user whose erasure came meanwhile is deleted again.
"""

import logging
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kafka.errors import KafkaError
from redis.exceptions import RedisError

from features.config import StoreSettings
from features.history import History, HistoryEvent, encode_history, event_of, merge
from features.online import SyncOnlineReader
from features.store import FeatureStore
from streaming.config import KafkaSettings
from streaming.consumer import ConsumerCounts, ConsumerSpec, Received, consume
from streaming.errors import BrokerUnavailable
from streaming.events import Interaction
from streaming.ids import UserId
from streaming.ledger import LedgerReader
from streaming.namespace import Namespace
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_MAX_RECORDS = 50_000  # a backfill writes each user once per poll, so long polls save writes
_MAX_ROUNDS = 10
_RETRY_S = 1.0  # at first; then the waits double
_LONGEST_RETRY_S = 5.0


class WriteContended(RuntimeError):
    """Histories were overwritten by somebody else time after time."""


@dataclass
class _Pending:
    """A user's new events and the append time (ms) of the newest record among them."""

    events: list[HistoryEvent] = field(default_factory=list)
    appended_at: int = 0


def group_of(namespace: Namespace) -> str:
    """Return the consumer group of a namespace's updaters."""
    return f"{namespace}.history"


def run_updater(
    kafka: KafkaSettings,
    store: StoreSettings,
    topics: Topics,
    stop: threading.Event,
    counts: ConsumerCounts | None = None,
) -> None:
    """Keep the histories up to date until `stop` is set; waits out a store that is down.

    Raises BrokerUnavailable when no broker answers; ErasureKeyMissing, LedgerMissing and LedgerUnreadable when it
    cannot know who was erased.
    """
    counts = counts if counts is not None else ConsumerCounts()
    erasures = LedgerReader(kafka, topics)
    erasures.refresh()
    features = FeatureStore(store, topics.namespace)
    if not features.is_applied():
        features.apply()
    reader = SyncOnlineReader(store, topics.namespace)
    updater = HistoryUpdater(reader, features, erasures, store.history_length)

    def handle(received: list[Received]) -> None:
        longest = _RETRY_S
        while True:
            try:
                return updater.update(received)
            except (RedisError, KafkaError, BrokerUnavailable) as error:
                _log.warning("the histories cannot be written, trying again: %s", error)
                counts.retries += 1
                counts.polled_at = time.monotonic()
                if stop.wait(random.uniform(longest / 2, longest)):  # noqa: S311 - keeps updaters apart
                    raise
                longest = min(longest * 2, _LONGEST_RETRY_S)

    spec = ConsumerSpec(topics=[topics.interactions], group=group_of(topics.namespace), max_records=_MAX_RECORDS)
    try:
        consume(kafka, spec, handle, stop, counts)
    finally:
        reader.close()
        erasures.close()


class HistoryUpdater:
    """Merges interactions into the stored histories."""

    def __init__(
        self, reader: SyncOnlineReader, features: FeatureStore, erasures: LedgerReader, history_length: int
    ) -> None:
        self._reader = reader
        self._features = features
        self._erasures = erasures
        self._history_length = history_length

    def update(self, received: list[Received]) -> None:
        """Merge the records' interactions; doing so again changes nothing. Guests without a user id are left out.

        Raises redis.RedisError when the store is down, WriteContended when others keep overwriting, BrokerUnavailable
        and KafkaError when the ledger cannot be read.
        """
        ledger = self._erasures.ledger
        kept: list[Received] = []
        dropped: list[Received] = []
        for record in received:
            (dropped if ledger.drops(record) else kept).append(record)
        pending = _by_user(kept)
        if of_before := _by_user(dropped):
            self._forget(of_before)
        self._merge(pending)
        changed = self._erasures.refresh()
        erased = {user_id for user_id in pending if changed and ledger.marker.mark(user_id) in changed}
        if erased:  # after their records were read: what was written is built on what is of before
            self._reader.delete_users(list(erased))
            later = _by_user(record for record in kept if not ledger.drops(record))
            self._merge({user_id: later[user_id] for user_id in erased & later.keys()})

    def _merge(self, pending: Mapping[UserId, _Pending]) -> None:
        for _ in range(_MAX_ROUNDS):
            if not pending:
                return
            pending = self._write(pending)
        raise WriteContended(f"{len(pending)} histories were overwritten again and again: is a second updater running?")

    def _forget(self, dropped: Mapping[UserId, _Pending]) -> None:
        """Undo what an updater that died may have written of dropped records after the erasure had cleared the store.

        It is all of before the erasure unless something was written since, which starts from nothing.
        """
        users = list(dropped)
        ids = {user_id: {event.event_id for event in dropped[user_id].events} for user_id in users}
        states = zip(users, self._reader.user_states(users), strict=True)
        self._reader.delete_users(
            [user_id for user_id, state in states if any(e.event_id in ids[user_id] for e in state.history.events)]
        )

    def _write(self, pending: Mapping[UserId, _Pending]) -> dict[UserId, _Pending]:
        """Write what changes a history and return what somebody else's newer write kept out."""
        users = list(pending)
        writes: dict[UserId, tuple[History, int]] = {}
        for user_id, state in zip(users, self._reader.user_states(users), strict=True):
            wanted, cut = pending[user_id], self._erasures.ledger.cut(user_id)
            known = state.history if cut is None else state.since(cut).history
            history = merge(known, wanted.events, self._history_length)
            if history != state.history:
                writes[user_id] = (history, max(wanted.appended_at * 1000, state.history_version + 1))
        self._features.write_histories(writes)
        stored = self._reader.stored_histories(list(writes))
        return {
            user_id: pending[user_id]
            for (user_id, (history, _)), found in zip(writes.items(), stored, strict=True)
            if found != encode_history(history)
        }


def _by_user(received: Iterable[Received]) -> dict[UserId, _Pending]:
    pending: defaultdict[UserId, _Pending] = defaultdict(_Pending)
    for record in received:
        event = record.event
        if isinstance(event, Interaction) and event.user_id is not None:
            wanted = pending[UserId(event.user_id)]
            wanted.events.append(event_of(event))
            wanted.appended_at = max(wanted.appended_at, record.appended_at)
    return pending
