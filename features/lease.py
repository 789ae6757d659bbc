"""The leases that let one process of a kind per namespace run, across machines: the lander, a replay of letters."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager

from redis import Redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from features.config import StoreSettings, store_url
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_log = logging.getLogger(__name__)

LANDER = "lander"

_LIFETIME_S = 9.0
_RENEWAL_S = 2.0
_POLL_S = 0.2


class LeaseHeld(FlywheelError):
    """Another process of the kind is at work in the namespace."""


class LeaseLost(FlywheelError):
    """The lease ran out while it was held, so another process may be at work."""


class LeaseUnknown(FlywheelError):
    """The store, which keeps the leases, does not answer."""


class Lease:
    """A held lease; `check` before every commit."""

    def __init__(self, lock: Lock, kind: str) -> None:
        self._lock = lock
        self._kind = kind
        self.lost = threading.Event()

    def check(self) -> None:
        """Raise LeaseLost unless the lease is still ours."""
        if self.lost.is_set() or not self._lock.owned():
            self.lost.set()
            raise LeaseLost(f"the lease of the {self._kind} ran out, and another one may be at work: start it again")

    def renew_until(self, stop: threading.Event) -> None:
        """Renew the lease until `stop` is set or the lease is lost."""
        while not stop.wait(_RENEWAL_S):
            try:
                self._lock.reacquire()
            except LockError:
                self.lost.set()
                return
            except RedisError as error:
                _log.warning("a lease could not be renewed, trying again: %s", error)


def landing_lease(store: StoreSettings, namespace: Namespace) -> AbstractContextManager[Lease]:
    """Hold the namespace's landing lease; raises LeaseHeld and LeaseUnknown."""
    return held_lease(store, namespace, LANDER)


def refuse_while_held(store: StoreSettings, namespace: Namespace, kind: str) -> None:
    """Raise LeaseHeld when another process of the kind is alive, as is known within seconds: who takes long to start
    asks this first. Raises LeaseUnknown when the store is down.
    """
    until = time.monotonic() + 1.5 * _RENEWAL_S
    with closing(Redis.from_url(store_url(store))) as client:
        _wait(client, namespace, kind, lambda: not client.exists(_key(namespace, kind)) or time.monotonic() > until)


@contextmanager
def held_lease(store: StoreSettings, namespace: Namespace, kind: str) -> Iterator[Lease]:
    """Hold the namespace's lease of a kind of process, renewed in the background.

    The lease of a process that died runs out after some seconds, which this waits for. Raises LeaseHeld when the other
    one is alive, and LeaseUnknown when the store is down.
    """
    client = Redis.from_url(store_url(store))
    lock = Lock(client, _key(namespace, kind), timeout=_LIFETIME_S, thread_local=False)
    with closing(client):
        _wait(client, namespace, kind, lambda: lock.acquire(blocking=False))
        lease, stop = Lease(lock, kind), threading.Event()
        renewer = threading.Thread(target=lease.renew_until, args=(stop,), name="lease", daemon=True)
        renewer.start()
        try:
            yield lease
        finally:
            stop.set()
            renewer.join()
            if not lease.lost.is_set():
                lock.release()


def _wait(client: Redis, namespace: Namespace, kind: str, free: Callable[[], bool]) -> None:
    """Return once the lease is `free`; raises LeaseHeld as soon as it is renewed, which only its holder does."""
    key, left = _key(namespace, kind), _LIFETIME_S * 1000
    try:
        while not free():
            before, left = left, float(client.execute_command("PTTL", key))  # type: ignore[no-untyped-call]
            if left > before:
                raise LeaseHeld(f"another {kind} of namespace {namespace!r} is at work: stop it first, one is enough")
            time.sleep(_POLL_S)
    except RedisError as error:
        raise LeaseUnknown(f"the online store, which keeps the lease of the {kind}, is away: {error}") from error


def _key(namespace: Namespace, kind: str) -> str:
    return f"flywheel:{namespace}:{kind}"
