"""Events on their way to Kafka: acknowledged by it, or else kept in the spool and sent, in order, when it is back.

While anything of this process lies in the spool, what comes queues behind it.
"""

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum

from streaming.acknowledgement_publisher import AcknowledgementPublisher
from streaming.acknowledgements import Acknowledgements, Metadata
from streaming.config import KafkaSettings
from streaming.draining import Drain
from streaming.errors import BrokerUnavailable
from streaming.events import Event
from streaming.producer import EventProducer, NotDurable
from streaming.records import LARGEST_RECORD, Record, records_of
from streaming.spool import Fill, Spool, SpoolError, SpoolPlace
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
_LOOK_S = 0.1


class Outcome(Enum):
    """What became of an event.

    All in-sync replicas have it; the spool has it on its disk; or neither, and it is lost unless it is sent again.
    """

    SENT = "sent"
    SPOOLED = "spooled"
    NEITHER = "neither"


Settle = Callable[[Outcome], None]


@dataclass(frozen=True)
class Delivery:
    """How long Kafka may take to acknowledge and an event wait for others, ms, and where to spool, if anywhere."""

    acknowledge_ms: int
    linger_ms: int = 5
    spool: SpoolPlace | None = None


@dataclass(eq=False, slots=True)
class _Waiting:
    """An event that was handed to the producer; `deadline` in seconds of the monotonic clock."""

    records: Sequence[Record]
    settle: Settle
    deadline: float
    claimed: bool = False


class Outbox:
    """One producer, one spool, and a thread that connects, drains the spool, and watches what Kafka does not answer.

    An event can be in Kafka twice, when an acknowledgement was lost or the process died while it drained: its id is
    the same. A producer that failed is replaced, since an idempotent one may never recover from an expired batch.
    """

    def __init__(
        self, kafka: KafkaSettings, topics: Topics, delivery: Delivery, drained: Callable[[int], None]
    ) -> None:
        """Nothing is connected or opened yet; `drained` is told how many spooled records came to Kafka."""
        self._kafka = kafka
        self._topics = topics
        self._delivery = delivery
        self._spool: Spool | None = None
        self._producer: EventProducer | None = None  # stands ready, and nothing is spooled
        self._in_flight: deque[_Waiting] = deque()
        self._order = threading.Lock()  # what is sent and what is spooled, one event after the other
        self._claims = threading.Lock()
        self._wake = threading.Event()
        self._failed = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="outbox", daemon=True)
        self._drained = drained
        self._acknowledgements = Acknowledgements(uuid.uuid4().hex, lambda: time.time_ns() // 1_000_000)
        self._publisher = AcknowledgementPublisher(kafka, topics, self._acknowledgements)

    @property
    def direct(self) -> bool:
        """Whether events go to Kafka at once: it is connected and the spool is drained."""
        return self._producer is not None

    @property
    def spools(self) -> bool:
        """Whether there is a spool."""
        return self._delivery.spool is not None

    @property
    def has_room(self) -> bool:
        """Whether there is a spool that is not full."""
        spool = self._spool
        return spool is not None and spool.fill.bytes < spool.capacity

    @property
    def fill(self) -> Fill:
        """How much is in the spool."""
        return Fill() if self._spool is None else self._spool.fill

    def start(self) -> None:
        """Own a spool and begin to connect; raises SpoolUnusable."""
        if self._delivery.spool is not None:
            self._spool = self._delivery.spool.claim()
        self._thread.start()
        self._publisher.start()

    def stop(self, timeout_s: float) -> None:
        """Wait for Kafka as long as that, spool the rest, tell what was acknowledged, and disconnect."""
        until = time.monotonic() + timeout_s
        self._stopping.set()
        while self._oldest() is not None and not self._failed.is_set() and time.monotonic() < until:
            self._failed.wait(_LOOK_S)
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(max(0.0, until - time.monotonic()))
        with self._order:
            self._fail_over()
            spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()
        self._publisher.stop(max(0.0, until - time.monotonic()))

    def send(self, event: Event, settle: Settle) -> None:
        """Send an event, or spool it; `settle` is told once what became of it, in any thread, and must not block."""
        records = records_of(self._topics, event)
        if any(record.size > LARGEST_RECORD for record in records):
            _log.error("event %r has more than %d bytes and is not sent", event.event_id, LARGEST_RECORD)
            settle(Outcome.NEITHER)
            return
        with self._order:
            if self._producer is None:
                self._keep_safe(records, settle)
            else:
                self._hand_over(self._producer, records, settle)

    def _hand_over(self, producer: EventProducer, records: Sequence[Record], settle: Settle) -> None:
        waiting = _Waiting(records, settle, time.monotonic() + self._delivery.acknowledge_ms / 1000)
        self._in_flight.append(waiting)
        try:
            *before, last = [producer.send_record(record) for record in records]
        except NotDurable as error:
            _log.warning("%s", error)
            self._fail_over()
            return
        # None of them takes the lock: the producer calls them while it holds its own.
        for future in before:
            future.add_callback(self._acknowledgements.note)
        last.add_callback(self._acknowledged, waiting)
        last.add_errback(self._refused, waiting)

    def _acknowledged(self, waiting: _Waiting, metadata: Metadata) -> None:
        self._acknowledgements.note(metadata)
        if self._claim(waiting):
            waiting.settle(Outcome.SENT)

    def _refused(self, waiting: _Waiting, error: Exception) -> None:
        if not waiting.claimed:  # else its producer was given up before, and another may be in charge
            _log.debug("Kafka did not acknowledge an event: %s", error)
            self._failed.set()
            self._wake.set()

    def _claim(self, waiting: _Waiting) -> bool:
        """Whether the caller is the one to settle an event."""
        with self._claims:
            first, waiting.claimed = not waiting.claimed, True
            return first

    def _fail_over(self) -> None:
        """Give the producer up and spool, in their order, what it has not acknowledged; called with the order held."""
        producer, self._producer = self._producer, None
        left = [waiting for waiting in self._in_flight if self._claim(waiting)]
        self._in_flight.clear()
        if producer is not None:
            producer.abort()
        self._failed.clear()
        self._wake.set()
        if left:
            _log.warning("Kafka did not acknowledge %d events in time", len(left))
        for waiting in left:
            self._keep_safe(waiting.records, waiting.settle)

    def _keep_safe(self, records: Sequence[Record], settle: Settle) -> None:
        if self._spool is None:
            settle(Outcome.NEITHER)
            return
        self._spool.append(records).add_done_callback(lambda done: settle(_outcome(done)))

    def _oldest(self) -> _Waiting | None:
        """Return the event that has waited longest for its acknowledgement."""
        with self._order:
            while self._in_flight and self._in_flight[0].claimed:
                self._in_flight.popleft()
            return self._in_flight[0] if self._in_flight else None

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                with self._connected() as producer:
                    self._drain_all(producer)
            except (BrokerUnavailable, NotDurable, SpoolError) as error:
                _log.warning("trying again in %s s: %s", _RETRY_S, error)
                self._stopping.wait(_RETRY_S)
                continue
            self._watch()

    @contextmanager
    def _connected(self) -> Iterator[EventProducer]:
        """Connect, and disconnect unless the producer was put in charge."""
        producer = EventProducer(
            self._kafka,
            self._topics,
            delivery_timeout_ms=self._delivery.acknowledge_ms,
            linger_ms=min(self._delivery.linger_ms, self._delivery.acknowledge_ms // 2),
        )
        try:
            yield producer
        finally:
            if self._producer is not producer:
                producer.abort()

    def _drain_all(self, producer: EventProducer) -> None:
        """Empty what other processes left behind and then our own spool; then put the producer in charge."""
        note, acknowledge_ms = self._acknowledgements.note, self._delivery.acknowledge_ms
        drain = Drain(self._kafka, self._topics, producer, acknowledge_ms, note, self._drained, self._stopping)
        with closing(drain):
            if self._delivery.spool is not None:
                for spool in self._delivery.spool.left_behind():
                    drain.empty(spool)
            while not self._stopping.is_set():
                if self._spool is not None:
                    drain.empty(self._spool)
                with self._order:
                    if not self._stopping.is_set() and (self._spool is None or self._spool.is_empty):
                        self._producer = producer
                        return

    def _watch(self) -> None:
        """Return when the producer was given up, or at the end."""
        while not self._stopping.is_set() and self._producer is not None:
            oldest = self._oldest()
            late = oldest is not None and oldest.deadline <= time.monotonic()
            if late or self._failed.is_set():
                with self._order:
                    self._fail_over()
                return
            self._wake.wait(_LOOK_S)
            self._wake.clear()


def _outcome(done: "Future[None]") -> Outcome:
    error = done.exception()
    if error is None:
        return Outcome.SPOOLED
    _log.debug("not spooled: %s", error)
    return Outcome.NEITHER
