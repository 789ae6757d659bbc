"""A steady load of sequence-numbered events, each sent again with its id until it is acknowledged."""

import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

USERS = 40
_SENDERS = 4
_LARGEST_BATCH = 8
_PAUSE_S = 0.08
_RETRY_S = 0.2
_DURABLE = ("accepted", "spooled", "duplicate")
_KINDS = ("click", "view", "like", "skip")


@dataclass(frozen=True)
class Sent:
    """An event as it was sent; `batch` numbers the acknowledged batches of its user, in order."""

    event_id: str
    user_id: str
    item_id: str
    kind: str
    happened_at: int
    batch: int


@dataclass
class Log:
    """What was sent and acknowledged, by user, in order; what was refused and should not have been."""

    acknowledged: dict[str, list[Sent]] = field(default_factory=dict)
    refused: list[Any] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)

    def all(self) -> list[Sent]:
        """Return everything that was acknowledged."""
        return [sent for of_user in self.acknowledged.values() for sent in of_user]


class Load:
    """Senders that go on until `finish`: each user's events come from one sender, one batch at a time."""

    def __init__(self, url: str, seed: int) -> None:
        self.log = Log({f"user-{number}": [] for number in range(USERS)})
        self._url, self._stop = url, threading.Event()
        self._senders = [
            threading.Thread(target=self._send_all, args=(number, random.Random(f"{seed}-{number}")), daemon=True)
            for number in range(_SENDERS)
        ]

    def start(self) -> None:
        """Begin."""
        for sender in self._senders:
            sender.start()

    def finish(self, seconds: float) -> None:
        """Begin nothing new, and return when all that was sent is acknowledged; AssertionError if never."""
        self._stop.set()
        deadline = time.monotonic() + seconds
        for sender in self._senders:
            sender.join(max(0.0, deadline - time.monotonic()))
            assert not sender.is_alive(), f"an event was not acknowledged within {seconds:.0f} s"

    def _send_all(self, number: int, rng: random.Random) -> None:
        users = [f"user-{user}" for user in range(number, USERS, _SENDERS)]
        with httpx.Client(base_url=self._url, timeout=10) as client:
            while not self._stop.wait(rng.uniform(0, 2 * _PAUSE_S)):
                self._deliver(client, self._batch(rng.choice(users), rng), rng)

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

    def _deliver(self, client: httpx.Client, batch: list[Sent], rng: random.Random) -> None:
        waiting = batch
        while True:
            waiting = self._tried(client, waiting)
            if not waiting:
                self.log.acknowledged[batch[0].user_id] += batch
                return
            time.sleep(rng.uniform(_RETRY_S / 2, _RETRY_S))

    def _tried(self, client: httpx.Client, batch: list[Sent]) -> list[Sent]:
        """Send once; returns what was not acknowledged."""
        events = [
            {name: getattr(sent, name) for name in ("event_id", "user_id", "item_id", "kind", "happened_at")}
            for sent in batch
        ]
        try:
            answer = client.post("/v1/events", json={"events": events})
        except httpx.HTTPError as error:
            self.log.answers[type(error).__name__] += 1
            return batch
        self.log.answers[str(answer.status_code)] += 1
        if answer.status_code not in (200, 207, 429, 503, 504):
            self.log.refused.append((answer.status_code, answer.text))
        results = answer.json().get("results", []) if answer.content else []
        self.log.refused += [result for result in results if result["status"] == "rejected"]
        durable = {result["event_id"] for result in results if result["status"] in _DURABLE}
        return [sent for sent in batch if sent.event_id not in durable]
