"""`landing`: rows a second from Kafka into the lake, and how the feature jobs grow with the number of events."""

import os
import time
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name
from rich.console import Group
from rich.table import Table
from streaming_stack import Parts, stores

from features.lake import INTERACTIONS, table_name
from features.landing import Lander, land
from features.spark import build_session
from features.training_set import build_features
from streaming.embedded.java import user_cache
from streaming.events import Interaction, Kind
from streaming.producer import EventProducer

_MB = 1_000_000
_START = 1_760_000_000_000


def run(home: Path, options: Namespace) -> dict[str, Any]:
    """Land ten times the events, the same again as duplicates, then compute features of one, ten, a hundred times."""
    with stores(home) as parts:
        settings = parts.settings
        lake = settings.lake.under(home)
        spark = build_session(lake, settings.topics.namespace, user_cache(os.environ))
        try:
            lander = Lander(spark, settings.kafka, lake, settings.store, settings.topics, _now)
            land(lander, available_now=True)  # makes the tables and warms Spark
            landings = [_landed(parts, lander, what, options.events * 10) for what in ("new", "duplicate")]
            jobs = [_featured(spark, parts, options.events * scale, scale) for scale in (1, 10, 100)]
        finally:
            spark.stop()
    failed = [f"{row['what']}: {row['inserted']} rows" for row in landings if row["inserted"] != row["expected"]]
    return {"landings": landings, "features": jobs, "failed": failed}


def table(report: dict[str, Any]) -> Group:
    """Return both tables."""
    landings = Table(title="Landing, one batch")
    for name in ("records", "of which new", "s", "records/s"):
        landings.add_column(name)
    for row in report["landings"]:
        rate = row["records"] / row["seconds"]
        landings.add_row(f"{row['records']:,}", f"{row['inserted']:,}", f"{row['seconds']:.1f}", f"{rate:,.0f}")
    jobs = Table(title="Feature jobs; memory is the most that the JVM ever held")
    for name in ("events", "s", "s per 10,000 events", "JVM peak MB"):
        jobs.add_column(name)
    for row in report["features"]:
        each = 1e4 * row["seconds"] / row["events"]
        jobs.add_row(f"{row['events']:,}", f"{row['seconds']:.1f}", f"{each:.2f}", f"{row['peak_mb']:.0f}")
    return Group(landings, jobs)


def _landed(parts: Parts, lander: Lander, what: str, events: int) -> dict[str, Any]:
    producer = EventProducer(parts.settings.kafka, parts.settings.topics)
    producer.publish(_click(number) for number in range(events))
    producer.close()
    began = time.perf_counter()
    run = land(lander, available_now=True)
    seconds = time.perf_counter() - began
    inserted = sum(landing.inserted for landing in run.landings)
    return {
        "what": what,
        "records": sum(landing.records for landing in run.landings),
        "inserted": inserted,
        "expected": events if what == "new" else 0,
        "seconds": seconds,
    }


def _featured(spark: SparkSession, parts: Parts, events: int, scale: int) -> dict[str, Any]:
    """Compute the feature tables of so many events, ten a user over 90 days."""
    namespace = parts.settings.topics.namespace
    now = datetime.now(UTC)
    kinds = "element_at(array('view', 'click', 'rating'), cast(id % 3 as int) + 1)"
    rows = spark.range(events).selectExpr(
        "concat('made-', id) AS event_id",
        f"timestamp_millis({_now()} - (id * 7919 % {90 * 86_400}) * 1000) AS happened_at",
        f"concat('user-', id % {max(events // 10, 1)}) AS user_id",
        "concat('item-', id * 31 % 2000) AS item_id",
        f"{kinds} AS kind",
        "cast(id % 5 AS double) AS value",
        "1 AS schema_version",
        "'benchmark' AS producer",
    )
    name = table_name(namespace, INTERACTIONS)
    wanted = [field.name for field in spark.table(name).schema.fields]
    made = rows.selectExpr(*(column if column in rows.columns else f"NULL AS {column}" for column in wanted))
    made.writeTo(name).overwrite(F.lit(True))
    began = time.perf_counter()
    build_features(spark, namespace, now)
    return {"scale": scale, "events": events, "seconds": time.perf_counter() - began, "peak_mb": _jvm_peak_mb()}


def _jvm_peak_mb() -> float:
    """Return the most memory that Spark's JVM has held, as the kernel counts it."""
    children = psutil.Process().children(recursive=True)
    jvms = [child for child in children if child.name() == "java" and "SparkSubmit" in " ".join(child.cmdline())]
    status = Path(f"/proc/{jvms[0].pid}/status").read_text(encoding="utf-8")
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024 / _MB


def _click(number: int) -> Interaction:
    return Interaction(
        event_id=f"landed-{number}",
        happened_at=_START + number,
        received_at=_START + number,
        producer="benchmark",
        item_id=f"item-{number % 977}",
        kind=Kind.CLICK,
        user_id=f"user-{number % 5_000}",
    )


def _now() -> int:
    return time.time_ns() // 1_000_000
