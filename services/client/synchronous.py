"""The client for programs with threads."""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
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
Rejected = Callable[[EventBody, Result], None]

_log = logging.getLogger(__name__)


def log_rejected(event: EventBody, result: Result) -> None:
    """Log an event that the collector does not take."""
    _log.error("event %r was rejected: %s", event.event_id, result.errors)


def tell_rejected(rejected: Rejected, sent: Sequence[EventBody], results: Sequence[Result | None]) -> None:
    """Hand the events that were rejected to the application; what it raises is logged."""
    for event, result in zip(sent, results, strict=True):
        if result is None or result.status != "rejected":
            continue
        try:
            rejected(event, result)
        except Exception:  # noqa: BLE001 - an application may raise anything; the event is settled, and all is logged
            _log.exception("`rejected` failed; event %r was rejected: %s", event.event_id, result.errors)


class Client:
    """Calls the services, and sends tracked events in the background. Safe to share between threads.

    Use it as a context manager, or close it; what is still tracked when the program ends is sent then, too.
    """

    def __init__(
        self,
        services: Services,
        retry: Retry | None = None,
        buffering: Buffering | None = None,
        rejected: Rejected = log_rejected,
    ) -> None:
        """Nothing is connected yet; `rejected` is told, in a thread, of tracked events that the collector refuses.

        What `rejected` raises is logged, and sending goes on.
        """
        self._retry = retry or Retry()
        self._buffering = buffering or Buffering()
        self._rejected = rejected
        options = {"headers": services.headers, "timeout": services.timeout_s}
        self._collector = httpx.Client(base_url=services.collector, **options)  # type: ignore[arg-type]
        self._recommender = httpx.Client(base_url=services.recommender, **options)  # type: ignore[arg-type]
        self._buffer = Buffer(self._buffering.capacity)
        self._changed = threading.Condition()
        self._hurried = 0  # who waits in `flush` or `close`
        self._closing = False
        self._given_up = threading.Event()
        self._sender: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the client."""
        self.close()

    def track(self, event: EventBody) -> str:
        """Have an event sent in the background and return its id.

        Raises BufferFull, and ClientError once closed or for an event that cannot be written.
        """
        event = calls.tracked(event)
        with self._changed:
            if self._closing:
                raise ClientError("the client is closed: make another one")
            self._buffer.add(event)
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_all, name="flywheel-client", daemon=True)
                self._sender.start()
                atexit.register(self._close_at_exit)
            self._changed.notify_all()
        return str(event.event_id)

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything tracked before is durable or rejected; returns whether it is within the time."""
        with self._changed:
            tracked = self._buffer.tracked
            self._hurried += 1
            self._changed.notify_all()
            done = self._changed.wait_for(lambda: not self._buffer.holds(tracked), timeout_s)
            self._hurried -= 1
        return done

    def close(self) -> None:
        """Send what is tracked, in the time that `Buffering` gives, and disconnect. Harmless when repeated.

        Raises Undelivered with the events that no collector has acknowledged.
        """
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._sender is not None:
            self._sender.join(self._buffering.close_s)
            self._given_up.set()
        atexit.unregister(self._close_at_exit)  # only now: until then it is what tells of events that are lost
        self._recommender.close()
        with self._changed:
            left = self._buffer.take()
        if self._sender is None or not self._sender.is_alive():
            self._collector.close()
        if left:
            raise Undelivered(left)

    def send_events(self, events: Sequence[EventBody]) -> list[Result]:
        """Make events durable and return what became of each; raises Refused and Unavailable."""
        return self._run(self._collector, calls.send_events(events, self._retry))

    def send_items(self, items: Sequence[ItemBody]) -> list[Result]:
        """Add or change items and return what became of each; raises Refused and Unavailable."""
        return self._run(self._collector, calls.send_items(items, self._retry))

    def send_users(self, users: Sequence[UserBody]) -> list[Result]:
        """Add or change users and return what became of each; raises Refused and Unavailable."""
        return self._run(self._collector, calls.send_users(users, self._retry))

    def send_identities(self, identities: Sequence[IdentityBody]) -> list[Result]:
        """Join sessions to users and return what became of each; raises Refused and Unavailable."""
        return self._run(self._collector, calls.send_identities(identities, self._retry))

    def remove_item(self, item_id: str) -> Accepted:
        """Take an item out of the catalogue; raises Refused and Unavailable."""
        return self._run(self._collector, calls.remove_item(item_id, self._retry))

    def recommend(self, question: RecommendRequest) -> RecommendAnswer:
        """Return a slate; raises Refused and Unavailable."""
        return self._run(self._recommender, calls.recommend(question, self._retry))

    def rank(self, question: RankRequest) -> RankAnswer:
        """Return a list in order; raises Refused and Unavailable."""
        return self._run(self._recommender, calls.rank(question, self._retry))

    def similar(self, question: SimilarRequest) -> SimilarAnswer:
        """Return items like one; raises Refused and Unavailable."""
        return self._run(self._recommender, calls.similar(question, self._retry))

    def _run(self, service: httpx.Client, steps: Steps[T], wait: Callable[[float], object] = time.sleep) -> T:
        reply: Reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                done: T = end.value
                return done
            if isinstance(step, Wait):
                wait(step.seconds)
                reply = None
                continue
            try:
                headers = {"content-type": step.media_type}
                reply = service.request(step.method, step.path, content=step.content, headers=headers)
            except httpx.RequestError as error:
                reply = error

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._buffer or self._closing)
                if not self._buffer:
                    return
                self._changed.wait_for(self._is_due, self._buffering.linger_s)
                sent = self._buffer.first()
            results = self._results_of(sent)
            with self._changed:
                if self._given_up.is_set():
                    return
                self._buffer.settle(sent, results)
                self._changed.notify_all()
            tell_rejected(self._rejected, sent, results)

    def _is_due(self) -> bool:
        return self._closing or self._hurried > 0 or len(self._buffer) >= MAX_BATCH

    def _results_of(self, sent: Sequence[EventBody]) -> Sequence[Result | None]:
        """Send events; returns None for those that have to be sent again."""
        try:
            return self._run(self._collector, calls.send_events(sent, self._retry), self._given_up.wait)
        except Unavailable as error:
            _log.warning("events wait for the collector: %s", error)
            return error.results
        except Refused as error:  # a key that is not valid, say: once that is mended they go through
            _log.error("events wait: %s", error)
            self._given_up.wait(self._retry.longest_wait_s)
            return [None] * len(sent)

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except Undelivered as error:
            _log.error("%s", error)
