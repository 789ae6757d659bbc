"""`updater`: how many events, and users, a second the history updater takes from Kafka into the online store."""

import threading
import time
from argparse import Namespace
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
    """Publish, then run an updater in a thread; its time counts from its first poll until it has handled all."""
    settings, rng, now = parts.settings, np.random.default_rng(seed), time.time_ns() // 1_000_000
    of_users = rng.permutation(events) % users
    producer = EventProducer(settings.kafka, settings.topics)
    producer.publish(_click(number, int(user), now + number) for number, user in enumerate(of_users))
    producer.close()
    counts, stop = ConsumerCounts(), threading.Event()
    thread = threading.Thread(
        target=run_updater, args=(settings.kafka, settings.store, settings.topics, stop, counts), daemon=True
    )
    thread.start()
    while counts.polled_at == 0:
        time.sleep(_POLL_S)
    began, cpu = time.perf_counter(), time.process_time()
    while counts.handled < events:
        time.sleep(_POLL_S)
    seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    stop.set()
    thread.join(60)
    return {"events": events, "users": users, "seconds": seconds, "cpu_s": cpu_s}


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
