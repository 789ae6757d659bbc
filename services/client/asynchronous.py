"""The client for programs with an event loop."""

import asyncio
import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx

from services.api.schemas import MAX_BATCH
from services.client import calls
from services.client.buffer import Buffer
from services.client.errors import ClientError, Refused, Unavailable, Undelivered
from services.client.exchange import Reply, Steps, Wait
from services.client.options import Buffering, Services
from services.client.retry import Retry
from services.client.synchronous import Rejected, log_rejected, tell_rejected
from services.collect.bodies import Accepted, EventBody, IdentityBody, ItemBody, Result, UserBody
from services.recommend.bodies import (
    RankAnswer,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    SimilarAnswer,
    SimilarRequest,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


class AsyncClient:
    """Calls the services, and sends tracked events in a task of its own. For one event loop.

    Use it as an asynchronous context manager, or close it: a loop that has ended sends nothing any more.
    """

    def __init__(
        self,
        services: Services,
        retry: Retry | None = None,
        buffering: Buffering | None = None,
        rejected: Rejected = log_rejected,
    ) -> None:
        """Nothing is connected yet; `rejected` is told of tracked events that the collector refuses.

        What `rejected` raises is logged, and sending goes on.
        """
        self._retry = retry or Retry()
        self._buffering = buffering or Buffering()
        self._rejected = rejected
        options = {"headers": services.headers, "timeout": services.timeout_s}
        self._collector = httpx.AsyncClient(base_url=services.collector, **options)  # type: ignore[arg-type]
        self._recommender = httpx.AsyncClient(base_url=services.recommender, **options)  # type: ignore[arg-type]
        self._buffer = Buffer(self._buffering.capacity)
        self._changed = asyncio.Condition()
        self._due = asyncio.Event()
        self._hurried = 0  # who waits in `flush`
        self._closing = False
        self._sender: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        await self.close()

    def track(self, event: EventBody) -> str:
        """Have an event sent by the loop and return its id.

        Raises BufferFull, and ClientError once closed or for an event that cannot be written.
        """
        event = calls.tracked(event)
        if self._closing:
            raise ClientError("the client is closed: make another one")
        self._buffer.add(event)
        if self._is_due():
            self._due.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send_all())
        return str(event.event_id)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything tracked before is durable or rejected; returns whether it is within the time."""
        tracked = self._buffer.tracked
        self._hurried += 1
        if self._is_due():
            self._due.set()
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: not self._buffer.holds(tracked))
        except TimeoutError:
            return False
        finally:
            self._hurried -= 1
        return True

    async def close(self) -> None:
        """Send what is tracked, in the time that `Buffering` gives, and disconnect. Harmless when repeated.

        Raises Undelivered with the events that no collector has acknowledged.
        """
        self._closing = True
        try:
            if self._sender is not None:
                self._due.set()
                await asyncio.wait([self._sender], timeout=self._buffering.close_s)
        finally:
            if self._sender is not None:
                self._sender.cancel()
            await self._collector.aclose()
            await self._recommender.aclose()
        if left := self._buffer.take():
            raise Undelivered(left)

    async def send_events(self, events: Sequence[EventBody]) -> list[Result]:
        """Make events durable and return what became of each; raises Refused and Unavailable."""
        return await self._run(self._collector, calls.send_events(events, self._retry))

    async def send_items(self, items: Sequence[ItemBody]) -> list[Result]:
        """Add or change items and return what became of each; raises Refused and Unavailable."""
        return await self._run(self._collector, calls.send_items(items, self._retry))

    async def send_users(self, users: Sequence[UserBody]) -> list[Result]:
        """Add or change users and return what became of each; raises Refused and Unavailable."""
        return await self._run(self._collector, calls.send_users(users, self._retry))

    async def send_identities(self, identities: Sequence[IdentityBody]) -> list[Result]:
        """Join sessions to users and return what became of each; raises Refused and Unavailable."""
        return await self._run(self._collector, calls.send_identities(identities, self._retry))

    async def remove_item(self, item_id: str) -> Accepted:
        """Take an item out of the catalogue; raises Refused and Unavailable."""
        return await self._run(self._collector, calls.remove_item(item_id, self._retry))

    async def recommend(self, question: RecommendRequest) -> RecommendAnswer:
        """Return a slate; raises Refused and Unavailable."""
        return await self._run(self._recommender, calls.recommend(question, self._retry))

    async def rank(self, question: RankRequest) -> RankAnswer:
        """Return a list in order; raises Refused and Unavailable."""
        return await self._run(self._recommender, calls.rank(question, self._retry))

    async def similar(self, question: SimilarRequest) -> SimilarAnswer:
        """Return items like one; raises Refused and Unavailable."""
        return await self._run(self._recommender, calls.similar(question, self._retry))

    async def _run(self, service: httpx.AsyncClient, steps: Steps[T]) -> T:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                done: T = end.value
                return done
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
                reply = None
                continue
            try:
                headers = {"content-type": step.media_type}
                reply = await service.request(step.method, step.path, content=step.content, headers=headers)
            except httpx.RequestError as error:
                reply = error

    async def _send_all(self) -> None:
        """Send until nothing is tracked; the next event that is tracked begins anew."""
        while self._buffer:
            try:
                async with asyncio.timeout(self._buffering.linger_s):
                    await self._due.wait()
            except TimeoutError:
                pass
            sent = self._buffer.first()
            results = await self._results_of(sent)
            self._buffer.settle(sent, results)
            if not self._is_due():
                self._due.clear()
            async with self._changed:
                self._changed.notify_all()
            tell_rejected(self._rejected, sent, results)

    def _is_due(self) -> bool:
        """Whether what is tracked goes out without waiting for more; with nothing tracked, `flush` hurries nothing."""
        return self._closing or (self._hurried > 0 and len(self._buffer) > 0) or len(self._buffer) >= MAX_BATCH

    async def _results_of(self, sent: Sequence[EventBody]) -> Sequence[Result | None]:
        """Send events; returns None for those that have to be sent again."""
        try:
            return await self._run(self._collector, calls.send_events(sent, self._retry))
        except Unavailable as error:
            _log.warning("events wait for the collector: %s", error)
            return error.results
        except Refused as error:  # a key that is not valid, say: once that is mended they go through
            _log.error("events wait: %s", error)
            await asyncio.sleep(self._retry.longest_wait_s)
            return [None] * len(sent)
