"""A steady load of sequence-numbered events, each sent again with its id until it is acknowledged."""

import random
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from services.client import Client, EventBody, Refused, Retry, Services, Unavailable
from streaming.events import Kind

USERS = 40
_SENDERS = 4
_LARGEST_BATCH = 8
_PAUSE_S = 0.08
_PATIENCE = Retry(tries=20, longest_wait_s=0.2, longest_asked_s=0.0)  # a load that backs off would be none
_KINDS = (Kind.CLICK, Kind.VIEW, Kind.LIKE, Kind.SKIP)


@dataclass(frozen=True)
class Sent:
    """An event as it was sent; `batch` numbers the acknowledged batches of its user, in order."""

    event_id: str
    user_id: str
    item_id: str
    kind: Kind
    happened_at: int
    batch: int


@dataclass
class Log:
    """What was acknowledged, by user, in order; what was refused and should not have been; results by status."""

    acknowledged: dict[str, list[Sent]] = field(default_factory=dict)
    refused: list[Any] = field(default_factory=list)
    results: Counter[str] = field(default_factory=Counter)

    def all(self) -> list[Sent]:
        """Return everything that was acknowledged."""
        return [sent for of_user in self.acknowledged.values() for sent in of_user]


class Load:
    """Senders that go on until `finish`: each user's events come from one sender, one batch at a time."""

    def __init__(self, url: str, seed: int) -> None:
        self.log = Log({f"user-{number}": [] for number in range(USERS)})
        self._url, self._stop, self._given_up = url, threading.Event(), threading.Event()
        self._seed = seed
        self._pool = ThreadPoolExecutor(_SENDERS, "sender")
        self._senders: list[Future[None]] = []

    def start(self) -> None:
        """Begin."""
        for number in range(_SENDERS):
            self._senders.append(self._pool.submit(self._send_all, number, random.Random(f"{self._seed}-{number}")))

    def give_up(self) -> None:
        """Have the senders end, whatever became of what they sent last."""
        self._stop.set()
        self._given_up.set()

    def finish(self, seconds: float) -> None:
        """Begin nothing new, and return when all that was sent is acknowledged.

        Raises TimeoutError when it is not by then, and what a sender died of.
        """
        self._stop.set()
        deadline = time.monotonic() + seconds
        for sender in self._senders:
            sender.result(max(0.0, deadline - time.monotonic()))

    def _send_all(self, number: int, rng: random.Random) -> None:
        users = [f"user-{user}" for user in range(number, USERS, _SENDERS)]
        with Client(Services(collector=self._url), _PATIENCE) as client:
            while not self._stop.wait(rng.uniform(0, 2 * _PAUSE_S)):
                self._deliver(client, self._batch(rng.choice(users), rng))

    def _batch(self, user_id: str, rng: random.Random) -> list[Sent]:
        of_user = self.log.acknowledged[user_id]
        batch = of_user[-1].batch + 1 if of_user else 0
        last = max((sent.happened_at for sent in of_user[-_LARGEST_BATCH:]), default=0)
        now = max(time.time_ns() // 1_000_000, last + 1)
        return [
            Sent(
                event_id=f"{user_id}-{batch}-{place}",
                user_id=user_id,
                item_id=f"item-{rng.randrange(200)}",
                kind=rng.choice(_KINDS),
                happened_at=now + place,
                batch=batch,
            )
            for place in range(rng.randint(1, _LARGEST_BATCH))
        ]

    def _deliver(self, client: Client, batch: list[Sent]) -> None:
        """Send until everything is acknowledged, and keep what was refused for good."""
        names = ("event_id", "user_id", "item_id", "kind", "happened_at")
        events = [EventBody(**{name: getattr(sent, name) for name in names}) for sent in batch]
        while True:
            try:
                results = client.send_events(events)
                break
            except Unavailable:
                if self._given_up.is_set():
                    return
            except Refused as error:
                self.log.refused.append(str(error))
                return
        self.log.results.update(result.status for result in results)
        self.log.refused += [result for result in results if result.status == "rejected"]
        self.log.acknowledged[batch[0].user_id] += batch
