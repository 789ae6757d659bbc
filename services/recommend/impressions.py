"""Impressions on their way to Kafka: a bounded queue and one thread, so that no answer waits for the log."""

import logging
import queue
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from features.history import History
from services.metrics import ImpressionMetrics
from streaming.config import KafkaSettings
from streaming.errors import BrokerUnavailable
from streaming.events import Impression
from streaming.ids import RequestId
from streaming.producer import EventProducer, NotDurable
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_RETRY_S = 1.0
_POLL_S = 0.2
_LINGER_MS = 100  # nobody waits for an impression, and one request for each would cost more than computing its slate
_DELIVERY_TIMEOUT_MS = 600_000  # the producer's own buffer (32 MB) bridges an outage this long


class ImpressionSink(Protocol):
    """Where impressions go."""

    def offer(self, impression: Impression) -> None:
        """Take an impression; never waits."""


@dataclass(frozen=True)
class Impressions:
    """Where impressions go, and the share of them that carry all that their slate was computed from."""

    sink: ImpressionSink
    replay_share: float
    record: Callable[[Impression, History], None] | None = None

    def offer(self, impression: Impression, history: History) -> None:
        """Have a slate logged, and kept with the history it was computed from where records are kept."""
        self.sink.offer(impression)
        if self.record is not None:
            self.record(impression, history)

    def is_replayable(self, request_id: RequestId) -> bool:
        """Whether a request is of the sample; the id alone decides."""
        return zlib.crc32(request_id.encode()) < self.replay_share * 2**32


class ImpressionLog:
    """Sends impressions in the background. While Kafka is away they wait in the queue; a full queue loses new ones.

    Every impression ends as sent or lost in the metrics, and is queued until then.
    """

    def __init__(self, kafka: KafkaSettings, topics: Topics, capacity: int, metrics: ImpressionMetrics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._metrics = metrics
        self._queue: queue.Queue[Impression] = queue.Queue(capacity)
        self._stop = threading.Event()
        self._broken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)

    @property
    def waiting(self) -> int:
        """How many impressions are queued."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send what can still be sent within the time."""
        self._stop.set()
        self._thread.join(timeout_s)

    def offer(self, impression: Impression) -> None:
        """Queue an impression, or count it as lost when the queue is full."""
        try:
            self._queue.put_nowait(impression)
        except queue.Full:
            self._metrics.lost()

    def _run(self) -> None:
        producer: EventProducer | None = None
        while not (self._stop.is_set() and self._queue.empty()):
            if producer is None or self._broken.is_set():
                producer = self._connect()
            if producer is None:
                if self._stop.wait(_RETRY_S):
                    break
                continue
            try:
                self._send(producer, self._queue.get(timeout=_POLL_S))
            except queue.Empty:
                continue
        if producer is not None:
            producer.close()

    def _connect(self) -> EventProducer | None:
        try:
            producer = EventProducer(
                self._kafka, self._topics, delivery_timeout_ms=_DELIVERY_TIMEOUT_MS, linger_ms=_LINGER_MS
            )
        except BrokerUnavailable as error:
            _log.warning("%d impressions wait: %s", self.waiting, error)
            return None
        self._broken.clear()
        return producer

    def _send(self, producer: EventProducer, impression: Impression) -> None:
        try:
            future = producer.send(impression)
        except NotDurable as error:
            _log.warning("impression %r goes back to the queue: %s", impression.event_id, error)
            self.offer(impression)
            self._stop.wait(_RETRY_S)
            return
        future.add_callback(lambda _: self._metrics.sent())
        future.add_errback(self._failed)

    def _failed(self, error: Exception) -> None:
        self._metrics.lost()
        self._broken.set()  # an idempotent producer may never recover from an expired batch; a new one starts clean
        _log.warning("an impression was lost: %s", error)
