"""What files become: every format as it is published, good rows and bad ones."""

import contextlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.imports.format import Format
from services.imports.mapping import Mapping, MappingBroken, read_mapping
from services.imports.rows import FileBroken
from services.imports.run import Report, Source, check_file, import_file
from services.imports.values import BadValue, millis
from streaming.events import Event, Interaction, ItemRemoved, ItemUpserted, Kind, UserUpserted

NOW = time.time_ns() // 1_000_000


def imported(source: Source) -> tuple[list[Any], Report]:
    """The events of a file and the report."""
    events: list[Event] = []

    def publish(batch: Sequence[Event]) -> None:
        events.extend(batch)

    report = import_file(source, source.file.parent / "cursors", publish, NOW, lambda _: True)
    assert report.cursor.published == len(events)
    assert check_file(source, NOW, lambda _: None).cursor.published == len(events)  # a dry run says the same
    return events, report


def text_file(folder: Path, name: str, text: str, encoding: str = "utf-8") -> Path:
    file = folder / name
    file.write_bytes(text.encode(encoding))
    return file


def json_lines(folder: Path, *rows: Any) -> Path:
    return text_file(folder, "rows.jsonl", "\n".join(json.dumps(row) for row in rows) + "\n")


def test_the_three_dumps_of_gorse_become_interactions_items_and_users(tmp_path: Path) -> None:
    file = json_lines(
        tmp_path,
        {"FeedbackType": "star", "UserId": "bob", "ItemId": "vuejs:vue", "Timestamp": "2022-02-24T00:00:00Z"},
        {"FeedbackType": "buy", "UserId": "bob", "ItemId": "d3:d3", "Timestamp": "2022-02-25T01:02:03.5+01:00"},
        {
            "ItemId": "vuejs:vue",
            "IsHidden": True,
            "Categories": ["web"],
            "Timestamp": "0001-01-01T00:00:00Z",
            "Labels": {"stars": 3, "topics": ["js", "ui"]},
            "Comment": "Vue",
        },
        {"ItemId": "d3:d3", "IsHidden": False, "Categories": None, "Timestamp": "2020-01-01", "Labels": ["chart"]},
        {"UserId": "bob", "Labels": {"company": "acme"}, "Comment": ""},
        {"UserId": "eve", "Labels": ["a", "b"], "Comment": ""},
        {"FeedbackType": "read", "UserId": "bob", "ItemId": "", "Timestamp": "2022-02-25"},
        {"FeedbackType": "hates", "UserId": "bob", "ItemId": "x", "Timestamp": "2022-02-25"},
        {"FeedbackType": "star", "UserId": "bob", "ItemId": "x", "Timestamp": "soon"},
        {"Something": "else"},
    )
    kinds = Mapping(entity="interactions", kinds={"buy": Kind.PURCHASE})
    (star, bought, vue, d3, bob, eve), report = imported(Source(file, Format.GORSE, kinds))
    assert (star.user_id, star.item_id, star.kind, star.happened_at) == ("bob", "vuejs:vue", Kind.LIKE, 1645660800000)
    assert (bought.kind, bought.happened_at) == (Kind.PURCHASE, 1645747323500)
    assert (vue.item_id, vue.hidden, vue.categories, vue.title) == ("vuejs:vue", True, ["web"], "Vue")
    assert (vue.attributes, vue.happened_at) == ({"stars": 3.0, "topics": '["js","ui"]'}, NOW)
    assert (d3.categories, d3.happened_at) == (["chart"], 1577836800000)
    assert (bob.user_id, bob.attributes, eve.attributes) == ("bob", {"company": "acme"}, {"labels": '["a","b"]'})
    assert [(bad.row, bad.field) for bad in report.bad_rows] == [
        (7, "item_id"),
        (8, "kind"),
        (9, "happened_at"),
        (10, "row"),
    ]
    assert report.cursor.rows == 10


def test_the_events_of_metarank_keep_their_session_and_the_ranking_that_they_answer(tmp_path: Path) -> None:
    file = json_lines(
        tmp_path,
        {
            "event": "item",
            "id": "1",
            "timestamp": "1599391467000",
            "item": "item1",
            "fields": [
                {"name": "title", "value": "You favourite cat"},
                {"name": "genres", "value": ["white", "black"]},
                {"name": "is_cute", "value": True},
                {"name": "colors", "value": ["white"]},
            ],
        },
        {
            "event": "user",
            "id": "2",
            "timestamp": "1599391467000",
            "user": "u1",
            "fields": [{"name": "age", "value": 33}],
        },
        {"event": "ranking", "id": "r1", "timestamp": "1599391467000", "user": "u1", "items": [{"id": "item1"}]},
        {
            "event": "interaction",
            "id": "4",
            "ranking": "r1",
            "timestamp": "1599391467001",
            "user": "u1",
            "session": "s1",
            "type": "purchase",
            "item": "item1",
        },
        {"event": "interaction", "id": "5", "timestamp": 1599391467002, "session": "s2", "type": "tap", "item": "i2"},
        {"event": "interaction", "id": "6", "timestamp": "1599391467002", "type": "click", "item": "item1"},
        {"event": "item", "id": "7", "timestamp": "1599391467000", "item": "i", "fields": {"a": 1}},
        {"event": "other"},
    )
    mapping = Mapping(entity="interactions", kinds={"tap": Kind.CLICK})
    (item, user, bought, tapped), report = imported(Source(file, Format.METARANK, mapping))
    assert isinstance(item, ItemUpserted)
    assert (item.title, item.categories) == ("You favourite cat", ["white", "black"])
    assert item.attributes == {"is_cute": True, "colors": '["white"]'}
    assert (user.user_id, user.attributes, user.happened_at) == ("u1", {"age": 33.0}, 1599391467000)
    assert (bought.kind, bought.request_id, bought.session_id) == (Kind.PURCHASE, "r1", "s1")
    assert (tapped.kind, tapped.user_id, tapped.session_id) == (Kind.CLICK, None, "s2")
    assert report.cursor.skipped == 1
    assert [(bad.row, bad.field) for bad in report.bad_rows] == [(6, "user_id"), (7, "fields"), (8, "event")]


@pytest.mark.parametrize("cell", ['"[""Café""]"', '"{""place"": ""Café""}"'])
def test_a_cell_of_json_in_another_encoding_is_a_bad_row_and_the_others_come_in(tmp_path: Path, cell: str) -> None:
    column = "categories" if "[" in cell else "attributes"
    file = text_file(tmp_path, "items.csv", f"item_id,happened_at,{column}\ni1,1,{cell}\ni2,1,\n", "latin-1")
    [item], report = imported(Source(file, Format.CSV))
    assert item.item_id == "i2"
    assert [bad.row for bad in report.bad_rows] == [1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,307,3.5,1256677221\n"),
        ("ratings.dat", "1::307::3.5::1256677221\n"),
        ("u.data", "1\t307\t3.5\t1256677221\n"),
    ],
)
def test_ratings_of_movielens_are_read_in_every_layout(tmp_path: Path, name: str, text: str) -> None:
    [rating], _ = imported(Source(text_file(tmp_path, name, text), Format.MOVIELENS))
    assert isinstance(rating, Interaction)
    assert (rating.user_id, rating.item_id, rating.value, rating.kind) == ("1", "307", 3.5, Kind.RATING)
    assert rating.happened_at == 1_256_677_221_000


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("movies.csv", 'movieId,title,genres\n1,"Misérables, Les (1995)",Drama|War\n'),
        ("movies.dat", "1::Misérables, Les (1995)::Drama|War\n"),
        ("u.item", "1|Misérables, Les (1995)|01-Jan-1995||http://x/|" + "|".join("0000000010000000010") + "\n"),
    ],
)
def test_films_of_movielens_are_read_in_every_layout(tmp_path: Path, name: str, text: str) -> None:
    file = text_file(tmp_path, name, text, "utf-8" if name == "movies.csv" else "latin-1")
    [film], _ = imported(Source(file, Format.MOVIELENS))
    assert isinstance(film, ItemUpserted)
    assert (film.item_id, film.title, film.categories) == ("1", "Misérables, Les (1995)", ["Drama", "War"])


def test_users_of_movielens_have_their_attributes(tmp_path: Path) -> None:
    for name, text in (("users.dat", "7::F::25::10::48067\n"), ("u.user", "7|25|F|10|48067\n")):
        [user], _ = imported(Source(text_file(tmp_path, name, text), Format.MOVIELENS))
        assert isinstance(user, UserUpserted)
        assert user.attributes == {"gender": "F", "age": "25", "occupation": "10", "zip_code": "48067"}


def test_a_mapping_file_says_which_column_is_which_field(tmp_path: Path) -> None:
    mapping = text_file(
        tmp_path,
        "orders.yaml",
        "entity: interactions\n"
        "fields: {user_id: customer, item_id: sku, happened_at: at, kind: what, value: price}\n"
        "constants: {surface: shop}\nkinds: {bought: purchase}\ntime_unit: seconds\nseparator: ';'\n",
    )
    rows = 'customer;sku;at;what;price\n7;"a;b";1700000000;bought;2.5\n8;c;2023-11-14T22:13:20;view;\n9;d;;view;\n'
    file = text_file(tmp_path, "orders.csv", rows)
    (bought, seen), report = imported(Source(file, Format.CSV, read_mapping(mapping)))
    assert (bought.user_id, bought.item_id, bought.kind, bought.value) == ("7", "a;b", Kind.PURCHASE, 2.5)
    assert bought.happened_at == seen.happened_at == 1_700_000_000_000
    assert (seen.value, seen.surface) == (None, "shop")
    assert [(bad.row, bad.field) for bad in report.bad_rows] == [(3, "happened_at")]


def test_parquet_with_whole_numbers_as_ids_is_read_by_a_mapping(tmp_path: Path) -> None:
    table = pa.table({"u": [1, 2], "i": [10, None], "t": pa.array([1_000, 2_000], pa.timestamp("ms", "UTC"))})
    pq.write_table(table, tmp_path / "clicks.parquet")
    fields = {"user_id": "u", "item_id": "i", "happened_at": "t"}
    mapping = Mapping(entity="interactions", fields=fields, constants={"kind": "click"})
    [click], report = imported(Source(tmp_path / "clicks.parquet", Format.PARQUET, mapping))
    assert (click.user_id, click.item_id, click.happened_at) == ("1", "10", 1_000)
    assert [(bad.row, bad.field) for bad in report.bad_rows] == [(2, "item_id")]


def test_events_as_they_are_on_the_wire_keep_their_ids_times_and_producers(tmp_path: Path) -> None:
    envelope = {"event_id": "e1", "happened_at": 5, "received_at": 6, "producer": "shop"}
    file = json_lines(
        tmp_path,
        {"type": "interaction", **envelope, "item_id": "i", "user_id": "u", "kind": "click"},
        {"type": "item_removed", **envelope, "item_id": "i"},
        {"item_id": "i", "title": "t", "attributes": {"a": 1, "b": None}, "happened_at": 7},
        {"type": "interaction", **envelope, "item_id": "i", "user_id": "u", "kind": "click", "colour": "red"},
        {"type": "impression", **envelope},
    )
    (click, removed, item), report = imported(Source(file, Format.JSONL))
    assert (click.event_id, click.happened_at, click.received_at, click.producer) == ("e1", 5, 6, "shop")
    assert isinstance(removed, ItemRemoved)
    assert (item.attributes, item.producer, len(item.event_id)) == ({"a": 1.0}, "import", 32)
    assert [(bad.row, bad.field) for bad in report.bad_rows] == [(4, "colour"), (5, "type")]


@pytest.mark.parametrize(
    ("name", "form", "content", "bad"),
    [
        ("a.jsonl", Format.JSONL, b"{\n[]\n\xff\n" + b"x" * 3_000_000 + b"\n", 4),
        ("a.csv", Format.CSV, b'user_id,item_id,kind\nu,i\nu,"i\x00,click\n', 2),
        (
            "b.csv",
            Format.CSV,
            b"user_id,item_id,kind,happened_at\nu,\xff,click,1\nu,i,rating,1\nu,i,view,99999999999999\n",
            3,
        ),
        ("c.csv", Format.CSV, b"user_id,item_id,kind,value,happened_at\nu,i,rating,nan,1\nu,i,rating,1e999,1\n", 2),
        ("d.csv", Format.CSV, b"", 0),
    ],
)
def test_no_row_however_broken_stops_an_import(
    tmp_path: Path, name: str, form: Format, content: bytes, bad: int
) -> None:
    file = tmp_path / name
    file.write_bytes(content)
    events, report = imported(Source(file, form))
    assert (events, report.cursor.bad) == ([], bad)
    assert all(row.detail for row in report.bad_rows)


def test_a_file_that_is_no_parquet_or_no_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileBroken, match=r"x\.parquet cannot be read as parquet"):
        imported(Source(text_file(tmp_path, "x.parquet", "no"), Format.PARQUET))
    with pytest.raises(FileBroken, match="cannot be read"):
        imported(Source(tmp_path / "absent.csv", Format.CSV))
    with pytest.raises(FileBroken, match="no file of MovieLens"):
        imported(Source(text_file(tmp_path, "other.csv", "a\n"), Format.MOVIELENS))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("entity: things", "entity"),
        ("entity: items\nfields: {user_id: u}", "user_id"),
        ("entity: items\ncolour: red", "colour"),
        ("entity: interactions\nkinds: {a: stare}", "stare"),
        ("entity: items\nencoding: klingon", "klingon"),
        ("entity: items\nseparator: ''", "separator"),
        ("entity: [", "expected"),
    ],
)
def test_a_mapping_that_cannot_be_used_is_one_sentence_that_names_the_fault(
    tmp_path: Path, text: str, named: str
) -> None:
    with pytest.raises(MappingBroken, match=named) as broken:
        read_mapping(text_file(tmp_path, "m.yaml", text))
    assert "\n" not in str(broken.value)


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_reads_the_same_as_a_number_and_as_text(at: int) -> None:
    assert millis(at, "milliseconds") == millis(str(at), "milliseconds") == at
    seconds = at // 1000
    assert millis(str(seconds), "seconds") == seconds * 1000


@given(st.text(max_size=30))
def test_no_text_crashes_the_reading_of_a_time(text: str) -> None:
    with contextlib.suppress(BadValue):
        assert isinstance(millis(text, "seconds"), int)
