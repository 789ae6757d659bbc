"""The leases that let one process of a kind per namespace run, across machines: the lander, a replay of letters."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from redis import Redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from features.config import StoreSettings, store_url
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_log = logging.getLogger(__name__)

_LIFETIME_S = 9.0
_RENEWAL_S = 2.0
_POLL_S = 0.2


class LeaseHeld(FlywheelError):
    """Another process of the kind is at work in the namespace."""


class LeaseLost(FlywheelError):
    """The lease ran out while it was held, so another process may be at work."""


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
    """Hold the namespace's landing lease; raises LeaseHeld."""
    return held_lease(store, namespace, "lander")


@contextmanager
def held_lease(store: StoreSettings, namespace: Namespace, kind: str) -> Iterator[Lease]:
    """Hold the namespace's lease of a kind of process, renewed in the background.

    The lease of a process that died runs out after some seconds, which this waits for; raises LeaseHeld when the other
    one is alive, that is when it renews.
    """
    client = Redis.from_url(store_url(store))
    lock = Lock(client, f"flywheel:{namespace}:{kind}", timeout=_LIFETIME_S, thread_local=False)
    left = _LIFETIME_S * 1000
    while not lock.acquire(blocking=False):
        before, left = left, float(client.execute_command("PTTL", lock.name))  # type: ignore[no-untyped-call]
        if left > before:  # only its holder renews it
            client.close()
            raise LeaseHeld(f"another {kind} of namespace {namespace!r} is at work: stop it first, one is enough")
        time.sleep(_POLL_S)
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
        client.close()
