"""The demonstration's slow path: landing, features and examples in one Spark session."""

import time
from collections import Counter
from collections.abc import Mapping

import msgspec
from pyspark.sql import SparkSession

from features.accounting import Accounting, audit
from features.batch import Landing
from features.lake import ensure_tables
from features.landing import Lander, land
from features.spark import build_session
from features.store import as_datetime
from services.config import Settings
from services.demo.stages import Stages
from services.derived import applied_store, materialise, write_features
from streaming.embedded.java import user_cache


class Accounted(msgspec.Struct, frozen=True, kw_only=True):
    """Records by topic: acknowledged to the producer, in Kafka, and what the lake made of them."""

    published: dict[str, int]
    kafka: dict[str, int]
    lake: dict[str, dict[str, int]]
    dead_letters: dict[str, int]
    balanced: bool


def open_lake(settings: Settings, environ: Mapping[str, str]) -> SparkSession:
    """Start Spark and make the lake's tables, which together take as long as publishing does."""
    spark = build_session(settings.lake.under(settings.home), settings.topics.namespace, user_cache(environ))
    ensure_tables(spark, settings.topics.namespace)
    return spark


def land_and_account(spark: SparkSession, settings: Settings, published: dict[str, int], stages: Stages) -> Accounted:
    """Land everything that is in Kafka and balance it with what was acknowledged."""
    lander = Lander(
        spark,
        settings.kafka,
        settings.lake.under(settings.home),
        settings.store.under(settings.home),
        settings.topics,
        lambda: time.time_ns() // 1_000_000,
    )
    with stages.stage("land", "Land the topics in Iceberg with Spark") as stage:
        stage.expect(sum(published.values()))

        def progress(landings: list[Landing]) -> None:
            stage.progress(sum(landing.records for landing in landings))

        land(lander, available_now=True, progress=progress)
        accounted = _balance(audit(spark, settings.kafka, settings.topics), published)
        for topic, counts in accounted.lake.items():
            parts = ", ".join(f"{count:,} {name}" for name, count in counts.items())
            sent = accounted.published.get(topic, 0)
            stage.say(f"{topic}: {sent:,} published = {accounted.kafka[topic]:,} in Kafka = {parts}")
    return accounted


def build_all_features(spark: SparkSession, settings: Settings, as_of: int, stages: Stages) -> None:
    """Build feature tables and examples as of the cut (ms), and write the newest features to the online store."""
    moment = as_datetime(as_of)
    with stages.stage("features", "Build features with Spark, join them with Feast, materialise") as stage:
        store = applied_store(settings)
        written = write_features(settings, spark, store, moment)
        materialised = materialise(settings, spark, store, moment)
        stage.say(", ".join(f"{table}: {rows.rows:,} rows" for table, rows in written.items()))
        stage.say(", ".join(f"{view}: {rows:,} in the online store" for view, rows in materialised.items()))


def _balance(accounting: Accounting, published: dict[str, int]) -> Accounted:
    """Add up by topic; what was published must be what Kafka holds, and that what the lake made of it."""
    kafka: Counter[str] = Counter()
    lake: dict[str, Counter[str]] = {}
    for part in accounting.partitions:
        kafka[part.topic] += part.offsets
        lake.setdefault(part.topic, Counter()).update(
            inserted=part.inserted, duplicates=part.duplicate, dead_letters=part.dead, parked=part.parked
        )
    complete = all(published.get(topic, 0) == count for topic, count in kafka.items())
    return Accounted(
        published=published,
        kafka=dict(kafka),
        lake={topic: dict(counts) for topic, counts in lake.items()},
        dead_letters={topic: counts["dead_letters"] for topic, counts in lake.items()},
        balanced=accounting.balanced and complete,
    )
