"""Emptying spools into Kafka: each topic in its order, and no old state of an item or user left as the last one."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kafka.errors import AuthorizationError, KafkaError

from streaming.acknowledgements import Metadata
from streaming.config import KafkaSettings
from streaming.newest_last import NewestLast
from streaming.producer import EventProducer, NotDurable
from streaming.spool import Spool, Spooled
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_AT_ONCE = 500
_YOUNG_MS = 2_000  # what has waited no longer is about as late as what comes straight from another process


@dataclass(frozen=True)
class Drain:
    """What sends the records of spools through one producer; to be closed.

    Kafka has `acknowledge_ms` for a batch. `note` is told what it acknowledged, `drained` how many records have left a
    spool, and `stopping` ends it between two batches.
    """

    kafka: KafkaSettings
    topics: Topics
    producer: EventProducer
    acknowledge_ms: int
    note: Callable[[Metadata], None]
    drained: Callable[[int], None]
    stopping: threading.Event
    _orders: dict[tuple[Path, str], NewestLast] = field(default_factory=dict)

    def empty(self, spool: Spool) -> None:
        """Send what a spool holds and remove it there; raises NotDurable, BrokerUnavailable and SpoolFailed."""
        while not self.stopping.is_set() and (spooled := spool.first(_AT_ONCE, but=self.topics.states)):
            self._remove(spool, spooled, self._deliver(spooled))
        for topic in self.topics.states:
            while not self.stopping.is_set() and (spooled := spool.first(_AT_ONCE, topic=topic)):
                self._send_states(spool, topic, spooled)

    def close(self) -> None:
        """Disconnect what watches topics; the producer stays."""
        for order in self._orders.values():
            order.close()

    def _send_states(self, spool: Spool, topic: str, spooled: Sequence[Spooled]) -> None:
        is_old = spool.now - spooled[0].spooled_at > _YOUNG_MS
        order = self._order(spool, topic, spooled) if is_old else None
        if order is not None:
            self._put_newest_last(order)  # a log that cannot be read now keeps the states where they are
        delivered = self._deliver(spooled)
        if order is not None:
            self._put_newest_last(order)
        # Last, so that whoever goes on after a crash looks too.
        self._remove(spool, spooled, delivered)

    def _order(self, spool: Spool, topic: str, spooled: Sequence[Spooled]) -> NewestLast:
        """Return what watches the keys of a spool."""
        order = self._orders.get((spool.path, topic))
        if order is None:
            order = NewestLast(self.kafka, self.topics, topic, spool.keys(topic), spooled[0].spooled_at)
            self._orders[spool.path, topic] = order
        order.watch([one.record.key for one in spooled])
        return order

    def _put_newest_last(self, order: NewestLast) -> None:
        try:
            while again := order.misplaced():
                _log.warning("states that were spooled for %s were old: the newest go there again", again[0].topic)
                for future in [self.producer.send_record(record) for record in again]:
                    self.note(future.get(timeout=self.acknowledge_ms / 1000))
        except AuthorizationError as error:
            # What was acknowledged must not wait until somebody grants the right.
            _log.error(
                "states spooled for %s may stand behind newer ones, which may not be read: %s", order.topic, error
            )
        except KafkaError as error:
            raise NotDurable(f"what was spooled for {order.topic} waits: {error}") from error

    def _deliver(self, spooled: Sequence[Spooled]) -> list[int]:
        """Send records; returns the numbers of those that Kafka has acknowledged in time, which may lie apart."""
        waiting = []
        for one in spooled:
            try:
                waiting.append((one.number, self.producer.send_record(one.record)))
            except NotDurable as error:
                _log.warning("record %d of the spool waits on: %s", one.number, error)
                break
        delivered, until = [], time.monotonic() + self.acknowledge_ms / 1000
        for number, future in waiting:
            try:
                self.note(future.get(timeout=max(0.0, until - time.monotonic())))
            except KafkaError as error:
                _log.warning("record %d of the spool waits on: %s", number, error)
            else:
                delivered.append(number)
        return delivered

    def _remove(self, spool: Spool, spooled: Sequence[Spooled], delivered: Sequence[int]) -> None:
        if delivered:
            spool.remove(delivered)
            self.drained(len(delivered))
        if len(delivered) < len(spooled):
            raise NotDurable("Kafka did not acknowledge all that was spooled")
