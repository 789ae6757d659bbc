"""Impressions on their way to Kafka: a bounded queue and one thread, so that no answer waits for the log."""

import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from features.history import History
from services.metrics import ImpressionMetrics
from streaming.events import Impression
from streaming.ids import RequestId
from streaming.outbox import Outbox, Outcome
from streaming.spool import Fill

LINGER_MS = 100
"""Nobody waits for an impression, and one request for each would cost more than computing its slate."""

_ROUND_S = 0.05


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
    """Sends impressions in the background. While Kafka is away they are spooled; a full queue loses new ones.

    Without a spool they wait in the queue. Every impression ends as sent, spooled or lost in the metrics, and waits
    until then; what was spooled comes to Kafka later.
    """

    def __init__(self, outbox: Outbox, capacity: int, metrics: ImpressionMetrics) -> None:
        self._outbox = outbox
        self._metrics = metrics
        self._waiting: deque[Impression] = deque()
        self._capacity = capacity
        self._room = threading.Semaphore(capacity)  # for those that were taken from the queue and have not ended
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="impressions", daemon=True)

    @property
    def waiting(self) -> int:
        """How many impressions are queued."""
        return len(self._waiting)

    @property
    def direct(self) -> bool:
        """Whether impressions go to Kafka at once."""
        return self._outbox.direct

    @property
    def fill(self) -> Fill:
        """How much is in the spool."""
        return self._outbox.fill

    def start(self) -> None:
        """Begin to send; raises SpoolUnusable."""
        self._outbox.start()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Send or spool what is queued; what cannot go anywhere within the time is counted as lost."""
        until = time.monotonic() + timeout_s
        self._stop.set()
        self._thread.join(timeout_s)
        self._outbox.stop(max(0.0, until - time.monotonic()))

    def offer(self, impression: Impression) -> None:
        """Queue an impression, or count it as lost when the queue is full."""
        if len(self._waiting) < self._capacity:
            self._waiting.append(impression)
        else:
            self._metrics.lost()

    def _run(self) -> None:
        # Rounds: being woken for each impression would cost the requests more than sending it.
        while not self._stop.wait(_ROUND_S):
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        while self._waiting and (self._outbox.direct or self._outbox.spools or self._stop.is_set()):
            self._room.acquire()
            self._outbox.send(self._waiting.popleft(), self._ended)

    def _ended(self, outcome: Outcome) -> None:
        self._room.release()
        match outcome:
            case Outcome.SENT:
                self._metrics.sent()
            case Outcome.SPOOLED:
                self._metrics.spooled()
            case Outcome.NEITHER:
                self._metrics.lost()
