"""Sending events to Kafka without blocking the event loop, and knowing of each whether it is durable."""

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.errors import BrokerUnavailable
from streaming.events import Event
from streaming.producer import EventProducer, NotDurable
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_RECONNECT_S = 1.0
_CHECK_TIMEOUT_MS = 2_000
_CHECK_KEPT_S = 1.0


class BrokerDown(ConnectionError):
    """No producer is connected, so nothing was sent."""


class DurableSender:
    """One producer with one thread that feeds it. After a failure it is replaced by a new one, in the background."""

    def __init__(self, kafka: KafkaSettings, topics: Topics, deadline_ms: int) -> None:
        self._kafka = kafka
        self._topics = topics
        self._deadline_ms = deadline_ms
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="producer")
        self._producer: EventProducer | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether a producer stands ready."""
        return self._producer is not None

    def start(self) -> None:
        """Connect in the background, now and whenever the connection was lost."""
        self._lost.set()
        self._keeper = asyncio.create_task(self._keep_connected())

    async def stop(self) -> None:
        """Send what is queued and disconnect."""
        if self._keeper is not None:
            self._keeper.cancel()
        producer, self._producer = self._producer, None
        if producer is not None:
            await self._run(producer.close)
        self._thread.shutdown(wait=False)

    async def send(self, events: Sequence[Event]) -> list[bool]:
        """Send events in their order; returns for each whether all in-sync replicas have acknowledged it in time.

        Raises BrokerDown when no producer is connected.
        """
        producer = self._producer
        if producer is None:
            raise BrokerDown("no producer is connected")
        loop = asyncio.get_running_loop()
        acknowledgements = [loop.create_future() for _ in events]
        await self._run(_queue, producer, events, acknowledgements, loop)
        await asyncio.wait(acknowledgements, timeout=self._deadline_ms / 1000)
        durable = [waiting.done() and waiting.result() for waiting in acknowledgements]
        if not all(durable):
            self._drop(producer)
        return durable

    async def _run(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _drop(self, producer: EventProducer) -> None:
        # An idempotent producer may never recover from an expired batch; a new one starts clean.
        if self._producer is producer:
            self._producer = None
            self._thread.submit(producer.close)
            self._lost.set()

    async def _keep_connected(self) -> None:
        while True:
            await self._lost.wait()
            try:
                self._producer = await self._run(self._connect)
                self._lost.clear()
            except BrokerUnavailable as error:
                _log.warning("trying again in %s s: %s", _RECONNECT_S, error)
                await asyncio.sleep(_RECONNECT_S)

    def _connect(self) -> EventProducer:
        return EventProducer(self._kafka, self._topics, delivery_timeout_ms=self._deadline_ms)


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


def _queue(
    producer: EventProducer,
    events: Sequence[Event],
    acknowledgements: Sequence["asyncio.Future[bool]"],
    loop: asyncio.AbstractEventLoop,
) -> None:
    def tell(waiting: "asyncio.Future[bool]", durable: bool, _: object = None) -> None:
        loop.call_soon_threadsafe(_settle, waiting, durable)

    for number, (event, waiting) in enumerate(zip(events, acknowledgements, strict=True)):
        try:
            sent = producer.send(event)
        except NotDurable as error:
            _log.warning("%s", error)
            for unsent in acknowledgements[number:]:
                tell(unsent, False)
            return
        sent.add_callback(tell, waiting, True)
        sent.add_errback(tell, waiting, False)


def _settle(waiting: "asyncio.Future[bool]", durable: bool) -> None:
    if not waiting.done():
        waiting.set_result(durable)
