"""Imports into a real broker: interrupted, killed between two steps, and by the command line."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from environ import without_settings
from topic_records import records

from services.config import Settings
from services.environment import settings_environ
from services.imports.format import Format
from services.imports.mapping import Mapping
from services.imports.run import Source, import_file
from streaming.codec import decode
from streaming.events import Event
from streaming.producer import EventProducer

NOW = time.time_ns() // 1_000_000
ROWS = 5_000


@pytest.fixture
def clicks(tmp_path: Path) -> Source:
    file = tmp_path / "clicks.jsonl"
    rows = [{"user_id": f"u{n % 9}", "item_id": f"i{n}", "kind": "click", "happened_at": n} for n in range(ROWS)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(file, Format.JSONL)


def found(settings: Settings) -> tuple[list[str], list[str]]:
    """The item ids and the event ids in Kafka, in order."""
    events = [decode(record.value) for record in records(settings.kafka, settings.topics.interactions)]
    return [event.item_id for event in events], [event.event_id for event in events]


def publisher(settings: Settings) -> Callable[[Sequence[Event]], object]:
    producer = EventProducer(settings.kafka, settings.topics)
    return producer.publish


def test_an_import_that_was_interrupted_goes_on_and_publishes_nothing_twice(
    settings: Settings, clicks: Source, tmp_path: Path
) -> None:
    publish = publisher(settings)
    runs = 0
    while not import_file(clicks, tmp_path, publish, NOW + runs, lambda _: False).cursor.finished:
        runs += 1
        assert runs < 10
    assert runs == 3
    items, ids = found(settings)
    assert items == [f"i{number}" for number in range(ROWS)]
    assert len(set(ids)) == ROWS
    again = import_file(clicks, tmp_path, publish, NOW, lambda _: True)
    assert (again.cursor.published, again.cursor.began_at) == (ROWS, NOW)
    assert len(found(settings)[0]) == ROWS


def test_an_import_that_died_behind_a_batch_sends_that_batch_again_with_the_same_ids(
    settings: Settings, clicks: Source, tmp_path: Path
) -> None:
    publish = publisher(settings)

    def die(events: Sequence[Event]) -> None:
        publish(events)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        import_file(clicks, tmp_path, die, NOW, lambda _: True)
    assert import_file(clicks, tmp_path, publish, NOW + 1, lambda _: True).cursor.published == ROWS
    items, ids = found(settings)
    assert len(ids) == ROWS + 2_000
    assert ids[:2_000] == ids[2_000:4_000]
    assert dict.fromkeys(items) == dict.fromkeys(f"i{number}" for number in range(ROWS))
    assert len(set(ids)) == ROWS


def test_an_import_with_a_corrected_mapping_begins_anew_with_the_ids_of_its_rows(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text("customer,sku,at,what\nu1,a,1,view\nu2,b,2,click\nu3,c,3,view\n")
    fields = {"user_id": "customer", "happened_at": "at", "kind": "what"}
    wrong, right = (Mapping(entity="interactions", fields={**fields, "item_id": column}) for column in ("SKU", "sku"))
    publish = publisher(settings)

    def run(mapping: Mapping, now: int) -> tuple[int, int, int, bool]:
        cursor = import_file(Source(file, Format.CSV, mapping), tmp_path, publish, now, lambda _: True).cursor
        return cursor.published, cursor.bad, cursor.began_at, cursor.finished

    assert run(wrong, NOW) == (0, 3, NOW, True)
    assert found(settings) == ([], [])
    assert run(right, NOW + 1) == (3, 0, NOW, True)
    items, ids = found(settings)
    assert items == ["a", "b", "c"]
    same = msgspec.structs.replace(right, fields=dict(reversed(right.fields.items())))
    assert run(same, NOW + 2) == (3, 0, NOW, True)
    assert len(found(settings)[0]) == 3  # the order of a mapping's keys changes nothing
    assert run(msgspec.structs.replace(right, constants={"surface": "shop"}), NOW + 3) == (3, 0, NOW, True)
    assert found(settings) == (items * 2, ids * 2)


def run_cli(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = without_settings()
    return subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env={**environ, **settings_environ(settings)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_what_became_of_the_rows_and_fails_when_some_are_bad(
    settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("userId,movieId,rating,timestamp\n1,2,4.0,1256677221\n1,3,many,1256677221\n1,,3,1256677221\n")
    tried = run_cli(settings, "import", str(file), "--format", "movielens", "--dry-run", "--json")
    assert tried.returncode == 1, tried.stderr
    [counts] = json.loads(tried.stdout)
    assert (counts["rows"], counts["events"], counts["bad"]) == (3, 1, 2)
    assert [(bad["row"], bad["field"]) for bad in counts["bad_rows"]] == [(2, "value"), (3, "item_id")]
    assert found(settings) == ([], [])
    done = run_cli(settings, "import", str(file), "--format", "movielens")
    assert done.returncode == 1, done.stderr
    assert found(settings)[0] == ["2"]
