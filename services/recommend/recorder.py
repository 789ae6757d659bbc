"""Keeps records of the slates that were answered, written by one thread, so that no answer waits for them."""

import logging
import threading
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from features.history import History
from features.slate_records import MOST_BYTES, Kept, SlateRecord, SlateRecords, encode_record
from services.metrics import RecordMetrics
from streaming.events import Impression
from streaming.ids import RequestId

_log = logging.getLogger(__name__)

_ROUND_S = 0.05
_AT_ONCE = 200
_WAITING = 5_000  # slates that wait to be written while the store is slow


@dataclass(frozen=True)
class RecordBounds:
    """Records of which share of the requests are kept: the newest `most` of a process, for `minutes` each."""

    share: float
    most: int
    minutes: int

    def takes(self, request_id: RequestId) -> bool:
        """Whether a request is of the share; the id alone decides."""
        return self.most > 0 and zlib.crc32(request_id.encode()) < self.share * 2**32


class SlateRecorder:
    """Writes what is offered to the store; all of the share ends as written, too_large or lost in the metrics."""

    def __init__(
        self, records: SlateRecords, bounds: RecordBounds, metrics: RecordMetrics, now: Callable[[], int]
    ) -> None:
        self.bounds = bounds
        self._records = records
        self._metrics = metrics
        self._now = now
        self._offered: deque[tuple[Impression, History]] = deque()
        self._kept: deque[Kept] = deque()
        self._failing = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="slate-records", daemon=True)

    def offer(self, impression: Impression, history: History) -> None:
        """Take a slate and the history it was computed from; never waits."""
        if not self.bounds.takes(impression.request_id):
            return
        if len(self._offered) < _WAITING:
            self._offered.append((impression, history))
        else:
            self._metrics.settled("lost")

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what is still to be written within the time."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        # Rounds, not a queue: being woken for each slate would cost more than writing it.
        while not self._stop.wait(_ROUND_S):
            self._write_offered()
        self._write_offered()
        self._records.close()

    def _write_offered(self) -> None:
        while self._offered:
            self._round()

    def _round(self) -> None:
        now = self._now()
        records = []
        for _ in range(min(len(self._offered), self.bounds.most, _AT_ONCE)):
            impression, history = self._offered.popleft()
            data = encode_record(SlateRecord.of(impression, history))
            if len(data) > MOST_BYTES:
                self._metrics.settled("too_large")
                continue
            records.append((Kept.of(impression, now + self.bounds.minutes * 60_000), data))
        if records:
            self._write(records, now)

    def _write(self, records: list[tuple[Kept, bytes]], now: int) -> None:
        replaced = []
        while self._kept and (self._kept[0].until <= now or len(self._kept) + len(records) > self.bounds.most):
            oldest = self._kept.popleft()
            if oldest.until > now:
                replaced.append(oldest)
        try:
            self._records.write(records, replaced, now)
        except RedisError as error:
            if not self._failing:
                _log.warning("slates cannot be explained until the store is back: %s", error)
            self._failing = True
            self._metrics.settled("lost", len(records))
            return
        self._failing = False
        self._kept.extend(kept for kept, _ in records)
        self._metrics.settled("written", len(records))
