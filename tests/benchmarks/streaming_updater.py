"""`updater`: how many events, and users, a second the history updater takes from Kafka into the online store."""

import threading
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from streaming_stack import Parts, stores

from features.updater import run_updater
from streaming.consumer import ConsumerCounts
from streaming.events import Interaction, Kind
from streaming.producer import EventProducer

_POLL_S = 0.01


def run(home: Path, options: Namespace) -> dict[str, Any]:
    """Let an updater catch up with a log, twice: many events of few users, and one event of each of many."""
    rows = []
    with stores(home) as parts:
        for name, users in (("10 events a user", options.events), ("1 event a user", options.events * 10)):
            rows.append({"log": name, **_caught_up(parts, users, options.events * 10, options.seed)})
    return {"rows": rows, "failed": []}


def table(report: dict[str, Any]) -> Table:
    """Return the rates."""
    found = Table(title="History updater catching up, one process")
    for name in ("log", "events", "users", "s", "events/s", "users/s", "CPU-s"):
        found.add_column(name)
    for row in report["rows"]:
        found.add_row(
            row["log"],
            f"{row['events']:,}",
            f"{row['users']:,}",
            f"{row['seconds']:.1f}",
            f"{row['events'] / row['seconds']:,.0f}",
            f"{row['users'] / row['seconds']:,.0f}",
            f"{row['cpu_s']:.1f}",
        )
    return found


def _caught_up(parts: Parts, users: int, events: int, seed: int) -> dict[str, Any]:
    """Publish, then let an updater handle all; its joining the group is counted, its first start is not."""
    settings, rng, now = parts.settings, np.random.default_rng(seed), time.time_ns() // 1_000_000
    _until(parts, lambda counts: counts.polled_at > 0)
    of_users = rng.permutation(events) % users
    producer = EventProducer(settings.kafka, settings.topics)
    producer.publish(_click(number, int(user), now + number) for number, user in enumerate(of_users))
    producer.close()
    began, cpu = time.perf_counter(), time.process_time()
    _until(parts, lambda counts: counts.handled >= events)
    return {
        "events": events,
        "users": users,
        "seconds": time.perf_counter() - began,
        "cpu_s": time.process_time() - cpu,
    }


def _until(parts: Parts, done: Callable[[ConsumerCounts], bool]) -> None:
    """Run an updater in a thread until `done`."""
    settings, counts, stop = parts.settings, ConsumerCounts(), threading.Event()
    arguments = (settings.kafka, settings.store, settings.topics, stop, counts)
    thread = threading.Thread(target=run_updater, args=arguments, daemon=True)
    thread.start()
    while not done(counts):
        thread.join(_POLL_S)
        if not thread.is_alive():
            raise RuntimeError("the updater ended before it had handled everything")
    stop.set()
    thread.join(60)


def _click(number: int, user: int, at: int) -> Interaction:
    return Interaction(
        event_id=f"{at}-{number}",
        happened_at=at,
        received_at=at,
        producer="benchmark",
        item_id=f"item-{number % 977}",
        kind=Kind.CLICK,
        user_id=f"user-{user}",
    )
