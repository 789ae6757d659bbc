"""Sending events without blocking the event loop, and knowing of each whether it is durable, and where."""

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.events import Event
from streaming.outbox import Outbox, Outcome
from streaming.spool import Fill
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_CHECK_TIMEOUT_MS = 2_000
_CHECK_KEPT_S = 1.0
_AT_ONCE = 1_500  # with more events on their way each of them costs half as much CPU again


class DurableSender:
    """An outbox with one thread that feeds it, because handing an event to the producer may block.

    While 1,500 events are on their way, the next request's wait: for `patience_s` at most, since where Kafka is slow or
    away, waiting saves nothing.
    """

    def __init__(self, outbox: Outbox, patience_s: float = 0.5) -> None:
        self._outbox = outbox
        self._patience_s = patience_s
        self._under_way = 0
        self._room = asyncio.Condition()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sender")

    @property
    def direct(self) -> bool:
        """Whether events go to Kafka at once."""
        return self._outbox.direct

    @property
    def has_room(self) -> bool:
        """Whether there is a spool that is not full."""
        return self._outbox.has_room

    @property
    def fill(self) -> Fill:
        """How much is in the spool."""
        return self._outbox.fill

    async def start(self) -> None:
        """Open the spool and begin to connect; raises SpoolUnusable."""
        await self._run(self._outbox.start)

    async def stop(self, timeout_s: float) -> None:
        """Send or spool what is queued within the time, and disconnect."""
        await self._run(self._outbox.stop, timeout_s)
        self._thread.shutdown(wait=False)

    async def send(self, events: Sequence[Event]) -> list[Outcome]:
        """Send events in their order; returns what became of each once all are in Kafka, in the spool, or refused."""
        if not events:
            return []
        batch = _Batch(len(events))

        def hand_over() -> None:
            for number, event in enumerate(events):
                self._outbox.send(event, functools.partial(batch.settle, number))

        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s), self._room:
                await self._room.wait_for(lambda: self._under_way < _AT_ONCE)
        self._under_way += len(events)
        try:
            await self._run(hand_over)
            return await batch.outcomes
        finally:
            self._under_way -= len(events)
            async with self._room:
                self._room.notify_all()

    async def _run(self, function: Callable[..., None], *arguments: Any) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)


class _Batch:
    """What became of events that were sent together; `outcomes` is done when it is known of all of them."""

    def __init__(self, count: int) -> None:
        self._known = [Outcome.NEITHER] * count
        self._left = count
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self.outcomes: asyncio.Future[list[Outcome]] = self._loop.create_future()

    def settle(self, number: int, outcome: Outcome) -> None:
        """Note what became of one of them; in any thread, once for each."""
        with self._lock:
            self._known[number] = outcome
            self._left -= 1
            if self._left:
                return
        self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        if not self.outcomes.done():  # the request may have run out of time
            self.outcomes.set_result(self._known)


class BrokerCheck:
    """Asks the cluster whether it answers and has our topics. Blocks for up to two seconds: call it in a thread."""

    def __init__(self, kafka: KafkaSettings, topics: Topics) -> None:
        self._kafka = kafka
        self._topics = topics
        self._admin: KafkaAdminClient | None = None
        self._checked_at = float("-inf")
        self._passed = False

    def passes(self) -> bool:
        """Return the answer, at most a second old."""
        if time.monotonic() - self._checked_at >= _CHECK_KEPT_S:
            self._passed = self._ask()
            self._checked_at = time.monotonic()
        return self._passed

    def close(self) -> None:
        """Disconnect."""
        admin, self._admin = self._admin, None
        if admin is not None:
            admin.close()

    def _ask(self) -> bool:
        try:
            if self._admin is None:
                self._admin = KafkaAdminClient(
                    **client_options(self._kafka),
                    request_timeout_ms=_CHECK_TIMEOUT_MS,
                    bootstrap_timeout_ms=_CHECK_TIMEOUT_MS,
                )
            return set(self._topics.landed) <= set(self._admin.list_topics())
        except KafkaError as error:
            _log.warning("the broker does not answer: %s", error)
            self.close()
            return False
