"""Changes that begin on the same base: none is made on a base that is gone."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession

from features.commits import insert_missing, replace_rows, same_in
from features.lake import INTERACTIONS, ITEM_RECENT, table_name
from features.maintenance import expire_snapshots
from streaming.namespace import Namespace
from tests.features.rows import append, at, frame, interaction

SAME = same_in(["event_id"])


@dataclass
class Gate:
    """Rows that are looked at only once another one has been let by: its readers wait at a pipe of the file system."""

    pipe: Path
    attempts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        os.mkfifo(self.pipe)

    def attempt(self) -> None:
        self.attempts.append(len(self.attempts))

    def behind(self, rows: DataFrame) -> DataFrame:
        pipe = self.pipe

        def wait(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            if pipe.exists():
                pipe.read_bytes()  # ends when the other side closes
            yield from batches

        return rows.coalesce(1).mapInArrow(wait, rows.schema)

    @contextmanager
    def shut(self) -> Iterator[None]:
        """Have the first reader wait while the block runs."""
        with self.pipe.open("wb"):  # waits for the reader
            try:
                yield
            finally:
                self.pipe.unlink()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """A closed gate."""
    return Gate(tmp_path / "gate")


@pytest.mark.parametrize("before", [0, 2])
def test_a_lander_that_slept_while_another_one_landed_the_same_inserts_nothing(
    spark: SparkSession, tables: Namespace, gate: Gate, before: int
) -> None:
    events = [interaction(number, "u", "i", at(0)) for number in range(4)]
    if before:
        append(spark, tables, INTERACTIONS, events[:before])
    asleep = spark.newSession()
    late, next_one = gate.behind(frame(asleep, INTERACTIONS, events)), frame(spark, INTERACTIONS, events)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(insert_missing, late, tables, INTERACTIONS, SAME, gate.attempt)
        with gate.shut():
            insert_missing(next_one, tables, INTERACTIONS, SAME)
        done.result()
    rows = spark.table(table_name(tables, INTERACTIONS)).collect()
    assert sorted(row["event_id"] for row in rows) == ["e0", "e1", "e2", "e3"]
    assert len(gate.attempts) == 2


def test_a_lander_whose_base_expired_in_an_erasure_meanwhile_lands_on_what_is_there(
    spark: SparkSession, tables: Namespace, gate: Gate
) -> None:
    name = table_name(tables, INTERACTIONS)
    append(spark, tables, INTERACTIONS, [interaction(8, "erased", "i", at(0)), interaction(9, "u", "i", at(0))])
    asleep = spark.newSession()
    late = gate.behind(frame(asleep, INTERACTIONS, [interaction(1, "u", "i", at(0))]))
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(insert_missing, late, tables, INTERACTIONS, SAME, gate.attempt)
        with gate.shut():
            spark.sql(f"DELETE FROM {name} WHERE user_id = 'erased'")  # noqa: S608 - own names only
            expire_snapshots(spark, name, 1)
        done.result()
    assert sorted(row["event_id"] for row in spark.table(name).collect()) == ["e1", "e9"]
    assert len(gate.attempts) == 2


class LeaseGone(Exception):
    """What the check of a lander raises whose lease ran out."""


def test_a_lander_that_lost_its_lease_meanwhile_does_not_try_again(
    spark: SparkSession, tables: Namespace, gate: Gate
) -> None:
    events = [interaction(1, "u", "i", at(0))]
    asleep = spark.newSession()
    late, next_one = gate.behind(frame(asleep, INTERACTIONS, events)), frame(spark, INTERACTIONS, events)

    def check() -> None:
        gate.attempt()
        if len(gate.attempts) > 1:
            raise LeaseGone

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(insert_missing, late, tables, INTERACTIONS, SAME, check)
        with gate.shut():
            insert_missing(next_one, tables, INTERACTIONS, SAME)
        with pytest.raises(LeaseGone):
            done.result()
    assert spark.table(table_name(tables, INTERACTIONS)).count() == 1


def test_inserting_what_is_there_rewrites_no_file(spark: SparkSession, tables: Namespace) -> None:
    name = table_name(tables, INTERACTIONS)
    events = frame(spark, INTERACTIONS, [interaction(number, "u", "i", at(0)) for number in range(4)])
    insert_missing(events, tables, INTERACTIONS, SAME)
    files = {row["file_path"] for row in spark.table(f"{name}.files").collect()}
    insert_missing(events, tables, INTERACTIONS, SAME)
    assert {row["file_path"] for row in spark.table(f"{name}.all_files").collect()} == files


@pytest.mark.parametrize("before", [0, 2])
def test_a_row_that_came_while_a_replacement_was_computed_is_computed_into_it(
    spark: SparkSession, tables: Namespace, gate: Gate, before: int
) -> None:
    derived = [{"item_id": f"i{number}", "event_timestamp": at(0)} for number in range(before + 1)]
    if before:
        append(spark, tables, ITEM_RECENT, derived[:before])

    def computed() -> DataFrame:
        gate.attempt()
        found = spark.table(table_name(tables, ITEM_RECENT)).collect()  # at once, so that an attempt sees no later row
        return gate.behind(frame(spark, ITEM_RECENT, [row.asDict() for row in found]))

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(replace_rows, spark, tables, ITEM_RECENT, computed)
        with gate.shut():
            append(spark, tables, ITEM_RECENT, derived[before:])
        done.result()
    found = sorted(row["item_id"] for row in spark.table(table_name(tables, ITEM_RECENT)).collect())
    assert found == [row["item_id"] for row in derived]
    assert len(gate.attempts) == 2
