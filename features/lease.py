"""The lease that lets one lander per namespace run, across machines."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

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
    """Another lander of the namespace is at work."""


class LeaseLost(FlywheelError):
    """The lease ran out while the lander held it, so another one may be at work."""


class Lease:
    """A held lease; `check` before every commit."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self.lost = threading.Event()

    def check(self) -> None:
        """Raise LeaseLost unless the lease is still ours."""
        if self.lost.is_set() or not self._lock.owned():
            self.lost.set()
            raise LeaseLost("the landing lease ran out, and another lander may be at work: start landing again")

    def renew_until(self, stop: threading.Event) -> None:
        """Renew the lease until `stop` is set or the lease is lost."""
        while not stop.wait(_RENEWAL_S):
            try:
                self._lock.reacquire()
            except LockError:
                self.lost.set()
                return
            except RedisError as error:
                _log.warning("the landing lease could not be renewed, trying again: %s", error)


@contextmanager
def landing_lease(store: StoreSettings, namespace: Namespace) -> Iterator[Lease]:
    """Hold the namespace's landing lease, renewed in the background.

    The lease of a lander that died runs out after some seconds, which this waits for; raises LeaseHeld when the other
    one is alive, that is when it renews.
    """
    client = Redis.from_url(store_url(store))
    lock = Lock(client, f"flywheel:{namespace}:lander", timeout=_LIFETIME_S, thread_local=False)
    left = _LIFETIME_S * 1000
    while not lock.acquire(blocking=False):
        before, left = left, float(client.execute_command("PTTL", lock.name))  # type: ignore[no-untyped-call]
        if left > before:  # only its holder renews it
            client.close()
            raise LeaseHeld(f"another lander of namespace {namespace!r} is at work: stop it first, one is enough")
        time.sleep(_POLL_S)
    lease, stop = Lease(lock), threading.Event()
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
