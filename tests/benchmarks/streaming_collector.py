"""`collector`: durable events a second by batch size and connections, beside kafka-python alone in the same run.

One process takes all loads, then two the batches of 1,000, which keep one process busy over a single connection.
"""

import json
import time
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaProducer
from rich.table import Table
from serving_load import Load
from serving_process import used
from serving_send import send
from streaming_stack import Parts, stores

from streaming.codec import encode
from streaming.config import KafkaSettings, client_options
from streaming.events import Interaction, Kind

SHARE = 0.6
"""The share of kafka-python's own rate that is aimed at with batches of 1,000."""

_USERS = 5_000
_BATCHES = (1, 100, 1_000)
_LARGEST = max(_BATCHES)
_CONNECTIONS = (1, 8)
_RAW_EVENTS = 60_000


def run(home: Path, options: Namespace) -> dict[str, Any]:
    """Measure kafka-python alone, before and after the collector under each load."""
    with stores(home) as parts:
        raw = [_raw(parts, options.quick)]
        loads = _rows(parts, 1, _BATCHES, options.seconds)
        raw.append(_raw(parts, options.quick))
        loads += _rows(parts, 2, [_LARGEST], options.seconds)
    ceiling = sum(raw) / len(raw)
    for row in loads:
        row["share"] = row["events_per_s"] / ceiling
    failed = [f"{row['loop']}: answers {row['answers']}" for row in loads if set(row["answers"]) != {"200"}]
    rates = {(row["workers"], row["batch"], row["connections"]): row["events_per_s"] for row in loads}
    failed += [
        f"8 connections took {rates[*where, 8]:.0f} events/s of {where[0]} processes, batches of {where[1]}, "
        f"1 took {rates[*where, 1]:.0f}"
        for where in ((1, 1), (1, 100), (2, _LARGEST))
        if rates[*where, 8] <= rates[*where, 1]
    ]
    return {"raw_events_per_s": raw, "ceiling_events_per_s": ceiling, "loads": loads, "failed": failed}


def table(report: dict[str, Any]) -> Table:
    """Return the loads."""
    raw = ", ".join(f"{rate:,.0f}" for rate in report["raw_events_per_s"])
    found = Table(title=f"Collector, durable events; kafka-python alone {raw} events/s (before, after)")
    for name in (
        "processes",
        "batch",
        "connections",
        "events/s",
        "share",
        "p50 ms",
        "p99 ms",
        "CPU-µs an event",
        "errors",
    ):
        found.add_column(name)
    for row in report["loads"]:
        errors = sum(count for status, count in row["answers"].items() if status != "200")
        found.add_row(
            str(row["workers"]),
            str(row["batch"]),
            str(row["connections"]),
            f"{row['events_per_s']:,.0f}",
            f"{row['share']:.2f}",
            f"{row['ms']['p50']:.1f}",
            f"{row['ms']['p99']:.1f}",
            f"{row['cpu_us']:.0f}",
            str(errors),
        )
    return found


def _rows(parts: Parts, workers: int, batches: Iterable[int], seconds: float) -> list[dict[str, Any]]:
    """Start a collector of so many processes, load it, and stop it."""
    serving = parts.settings.serving.model_copy(update={"collector_workers": workers})
    parts.settings = parts.settings.model_copy(update={"serving": serving})
    port = serving.collector_port
    collector = parts.start("collector", "serve", "collector", port=port)
    send(_load(port, 100, 8, 3.0), "warming")
    found = []
    for batch in batches:
        for connections in _CONNECTIONS:
            found.append({"workers": workers, **_measured(parts, batch, _load(port, batch, connections, seconds))})
    collector.stop()
    return found


def _load(port: int, batch: int, connections: int, seconds: float) -> Load:
    events = [_body(number % _USERS) for number in range(batch)]
    events[-1]["user_id"] = "user-@"
    before, after = json.dumps({"events": events}).split("@")
    return Load(
        port=port,
        path="/v1/events",
        before=before,
        after=after,
        users=_USERS,
        connections=connections,
        seconds=seconds,
    )


def _body(user: int) -> dict[str, Any]:
    return {
        "user_id": f"user-{user:07d}",
        "item_id": f"item-{user % 977}",
        "kind": "click",
        "surface": "home",
        "position": user % 20,
    }


def _measured(parts: Parts, batch: int, load: Load) -> dict[str, Any]:
    before = used(parts.pids)
    heard = send(load, f"batches of {batch}")
    cpu = used(parts.pids).since(before)
    events = batch * sum(heard.answers.values())
    return {
        "batch": batch,
        "connections": load.connections,
        "loop": f"batch {batch}, c={load.connections}",
        "events_per_s": events / heard.wall_s,
        "cpu_us": 1e6 * cpu["collector"] / events,
        "cpu_us_broker": 1e6 * cpu["broker"] / events,
        **msgspec.to_builtins(heard),
    }


def _raw(parts: Parts, quick: bool) -> float:
    """Return the events/s of kafka-python alone, with the collector's own settings and encoded events."""
    settings, count = parts.settings, _RAW_EVENTS // (10 if quick else 1)
    records = [_record(number) for number in range(5_000)]
    producer = _producer(settings.kafka)
    try:
        producer.send(settings.topics.interactions, value=records[0][1], key=records[0][0]).get(timeout=30)
        began = time.perf_counter()
        futures = []
        for number in range(count):
            key, value = records[number % len(records)]
            futures.append(producer.send(settings.topics.interactions, value=value, key=key))
        producer.flush(120)
        for future in futures:
            future.get(timeout=1)
        return count / (time.perf_counter() - began)
    finally:
        producer.close()


def _producer(kafka: KafkaSettings) -> KafkaProducer:
    return KafkaProducer(
        **client_options(kafka),
        acks="all",
        enable_idempotence=True,
        compression_type="lz4",
        linger_ms=5,
        batch_size=65_536,
    )


def _record(number: int) -> tuple[bytes, bytes]:
    now = time.time_ns() // 1_000_000
    event = Interaction(
        event_id=f"{number:032x}",
        happened_at=now,
        received_at=now,
        producer="benchmark",
        kind=Kind.CLICK,
        item_id=f"item-{number % 977}",
        user_id=f"user-{number % _USERS:07d}",
        surface="home",
        position=number % 20,
    )
    return str(event.user_id).encode(), encode(event)
