"""Backup and restore of a real lake: every byte comes back, where it was, and nothing is overwritten."""

import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from clicks import click
from pydantic import SecretStr
from pyspark.sql import SparkSession
from topic_records import records

from features.accounting import audit
from features.backup import BackupUnusable, Holder, Place, back_up, restore
from features.config import LakeSettings, StoreSettings
from features.lake import INTERACTIONS, table_name
from features.landing import Lander, land
from features.snapshots import open_catalog, pin_snapshot, read_table
from services.config import Settings
from services.erasure.erase import Eraser
from streaming.config import KafkaSettings
from streaming.events import ErasureCompleted, ErasureEntered
from streaming.marks import Marker
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics
from tests.features.rows import append, at, interaction


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.endswith(".crc"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def drop_all(holder: Holder) -> None:
    catalog = open_catalog(holder.lake)
    for identifier in catalog.list_tables(holder.topics.namespace):
        catalog.drop_table(identifier)


@pytest.fixture
def holder(broker: KafkaSettings, lake: LakeSettings, namespace: Namespace, tmp_path: Path) -> Holder:
    """What is backed up: a namespace whose topics exist."""
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    return Holder(lake, str(tmp_path / "feast" / "registry.db"), broker, topics)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place((tmp_path / "backup").as_uri())


def test_what_was_lost_comes_back_byte_for_byte_with_its_past_and_who_was_erased(
    spark: SparkSession, holder: Holder, place: Place, tables: Namespace, tmp_path: Path
) -> None:
    broker, lake, topics = holder.kafka, holder.lake, holder.topics
    registry = Path(holder.registry)
    registry.parent.mkdir()
    registry.write_bytes(b"what Feast keeps")
    append(spark, tables, INTERACTIONS, [interaction(1, "u", "i", at(0))])
    first = read_table(lake, tables, "interactions").snapshot_id
    assert first is not None
    pin_snapshot(lake, tables, "interactions", first, "champion")
    spark.sql(f"DELETE FROM {table_name(tables, INTERACTIONS)} WHERE event_id = 'e1'")  # noqa: S608
    append(spark, tables, INTERACTIONS, [interaction(2, "u", "i", at(1))])
    entered = ErasureEntered(event_id="x", happened_at=1, received_at=1, producer="test", mark="ab" * 32)
    producer = EventProducer(broker, topics)
    producer.publish([entered])

    index = back_up(holder, place)
    copied = {path: path.stat().st_mtime_ns for path in (tmp_path / "backup").rglob("*.parquet")}
    assert copied
    assert back_up(holder, place) == index
    assert {path: path.stat().st_mtime_ns for path in copied} == copied  # only what is new is copied

    warehouse = Path(urlsplit(str(lake.warehouse)).path) / tables
    before, rows = bytes_of(warehouse), spark.table(table_name(tables, INTERACTIONS)).collect()
    append(spark, tables, INTERACTIONS, [interaction(4, "u", "i", at(3))])
    with pytest.raises(BackupUnusable, match="already has the tables interactions: drop them"):
        restore(holder, place, producer)
    drop_all(holder)
    shutil.rmtree(warehouse)
    registry.unlink()

    for wrong, told in (
        (replace(holder, topics=Topics(Namespace("other"))), "FLYWHEEL_NAMESPACE"),
        (replace(holder, lake=lake.model_copy(update={"warehouse": "file:///elsewhere"})), "FLYWHEEL_LAKE__WAREHOUSE"),
        (replace(holder, kafka=broker.model_copy(update={"erasure_key": SecretStr("x" * 40)})), "ERASURE_KEY"),
    ):
        with pytest.raises(BackupUnusable, match=told):
            restore(wrong, place, producer)
    restore(holder, place, producer)
    # One that was interrupted has put back some tables, the last with a part of a file, and goes on.
    open_catalog(lake).drop_table((tables, "interactions"))
    cut_off = next(path for path in warehouse.rglob("*.parquet"))
    cut_off.write_bytes(cut_off.read_bytes()[:10])
    restore(holder, place, producer)
    producer.close()

    after = bytes_of(warehouse)
    assert after.items() <= before.items()  # what nothing pointed to any more stays away
    assert set(index.files) == {f"{tables}/{name}" for name in after}
    assert spark.table(table_name(tables, INTERACTIONS)).collect() == rows
    assert read_table(lake, tables, "interactions", snapshot_id=first).arrow["event_id"].to_pylist() == ["e1"]
    assert spark.read.option("versionAsOf", "champion").table(table_name(tables, INTERACTIONS)).count() == 1
    append(spark, tables, INTERACTIONS, [interaction(3, "u", "i", at(2))])  # and it goes on
    assert spark.table(table_name(tables, INTERACTIONS)).count() == 2
    assert registry.read_bytes() == b"what Feast keeps"
    assert len(records(broker, topics.erasures)) == 1  # the log still had it


def test_who_was_erased_after_the_backup_does_not_come_back_with_it(
    spark: SparkSession, holder: Holder, place: Place, store: StoreSettings, tables: Namespace, tmp_path: Path
) -> None:
    broker, topics = holder.kafka, holder.topics
    seen = {"appended_at": at(1), "received_at": at(1), "topic": topics.interactions, "partition": 0}
    users = ("erased", "kept")
    log = [interaction(number, user, "i", at(1), offset=number, **seen) for number, user in enumerate(users)]
    append(spark, tables, INTERACTIONS, log)
    back_up(holder, place)
    spark.sql(f"DELETE FROM {table_name(tables, INTERACTIONS)} WHERE user_id = 'erased'")  # noqa: S608
    mark = Marker(broker, tables).mark("erased")
    completed = ErasureCompleted(event_id="y", happened_at=1, received_at=1, producer="test", mark=mark, cut=2**41)
    with closing(EventProducer(broker, topics)) as producer:
        producer.publish(
            [ErasureEntered(event_id="x", happened_at=1, received_at=1, producer="test", mark=mark), completed]
        )
        drop_all(holder)
        restore(holder, place, producer)
    assert spark.table(table_name(tables, INTERACTIONS)).count() == 2
    settings = Settings(home=tmp_path, namespace=tables, kafka=broker, lake=holder.lake, store=store)
    assert len(list(Eraser(settings, spark).erase_again())) == 1
    assert [row.user_id for row in spark.table(table_name(tables, INTERACTIONS)).collect()] == ["kept"]
    assert list(Eraser(settings, spark).erase_again()) == []


def test_a_backup_comes_back_into_a_catalogue_that_was_lost_as_well(
    spark: SparkSession, holder: Holder, place: Place, tables: Namespace, tmp_path: Path
) -> None:
    append(spark, tables, INTERACTIONS, [interaction(1, "u", "i", at(0))])
    index = back_up(holder, place)
    elsewhere = holder.lake.model_copy(update={"uri": str(tmp_path / "new" / "catalogue.db")})
    with closing(EventProducer(holder.kafka, holder.topics)) as producer:
        restore(replace(holder, lake=elsewhere), place, producer)
    assert {name for _, name in open_catalog(elsewhere).list_tables(tables)} == set(index.tables)
    assert read_table(elsewhere, tables, "interactions").arrow["event_id"].to_pylist() == ["e1"]


def test_what_landed_after_the_backup_lands_again_when_it_is_restored(
    spark: SparkSession, holder: Holder, place: Place, store: StoreSettings
) -> None:
    broker, lake, topics = holder.kafka, holder.lake, holder.topics
    lander = Lander(spark, broker, lake, store, topics, clock=lambda: 1_790_000_000_000)
    with closing(EventProducer(broker, topics)) as producer:
        producer.publish(click(number) for number in range(5))
        land(lander, available_now=True)
        back_up(holder, place)
        producer.publish(click(number) for number in range(5, 9))
        land(lander, available_now=True)
        drop_all(holder)
        restore(holder, place, producer)
        land(lander, available_now=True)
    found = read_table(lake, topics.namespace, "interactions", columns=("event_id",)).arrow["event_id"].to_pylist()
    assert sorted(found) == [f"e{number}" for number in range(9)]
    audit(spark, broker, topics).check()


def test_another_lake_is_not_backed_up_over_one(
    spark: SparkSession, holder: Holder, place: Place, tables: Namespace
) -> None:
    append(spark, tables, INTERACTIONS, [interaction(1, "u", "i", at(0))])
    index = back_up(holder, place)
    other = replace(holder, lake=holder.lake.model_copy(update={"warehouse": "file:///elsewhere"}))
    with pytest.raises(BackupUnusable, match=f"has the backup of {tables} in .*: name another place"):
        back_up(other, place)
    assert place.index() == index


def test_a_backup_that_was_cut_off_is_none(tmp_path: Path) -> None:
    with pytest.raises(BackupUnusable, match="no whole backup"):
        Place(str(tmp_path)).index()
