"""Input that nobody should send: a clear error, or the documented fallback."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import small
from resigned import resign

from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.artifact import MANIFEST, SPEC, USER_TOWER, CorruptArtifact, write_artifact
from models.content import ItemContent
from models.dataset import NotEnoughData, Tables, training_data
from models.export import artifact_parts
from models.fitting import Timer, fit
from models.log import UnknownKind
from models.scorer import Query, Scorer
from models.spec import Lineage
from streaming.events import Kind
from streaming.ids import EventId, ItemId

NOW = small.NOW


def history(*names: str, kind: Kind = Kind.CLICK) -> History:
    events = [
        HistoryEvent(NOW + 1_000 * number, EventId(f"h{number}"), ItemId(name), kind)
        for number, name in enumerate(names)
    ]
    return History(tuple(events))


def ranked(scorer: Scorer, query: Query) -> list[float]:
    window = PopularityWindow(scorer.size)
    window.observe(np.array([3, 3, 5]), np.full(3, NOW - 1_000))
    scores: list[float] = scorer.rank(query, np.arange(scorer.size), window).tolist()
    return scores


def ask(scorer: Scorer, past: History, features: dict[str, float | str] | None = None) -> Query:
    return Query(past, features or {}, NOW + 60_000)


def test_an_empty_history_is_answered_by_what_is_popular(scorer: Scorer) -> None:
    query = ask(scorer, History())
    assert len(scorer.retrieve(query, 10).rows) == 0
    assert len(scorer.co_visited(query, 10).rows) == 0
    assert int(np.argmax(ranked(scorer, query))) == 3


def test_a_history_of_unknown_items_alone_is_answered_with_numbers(scorer: Scorer) -> None:
    query = ask(scorer, history("never", "heard", "of"))
    found = scorer.retrieve(query, 10)
    assert len(found.rows) == 10
    assert np.isfinite(found.scores).all()
    assert len(scorer.co_visited(query, 10).rows) == 0
    assert np.isfinite(ranked(scorer, query)).all()


def test_a_history_of_negative_feedback_alone_is_answered_with_numbers(scorer: Scorer) -> None:
    query = ask(scorer, history("i1", "i2", kind=Kind.HIDE))
    assert np.isfinite(ranked(scorer, query)).all()
    assert len(scorer.co_visited(query, 10).rows) == 0


def test_nothing_to_rank_is_nothing(scorer: Scorer) -> None:
    found = scorer.rank(ask(scorer, history("i1")), np.zeros(0, dtype=np.int64), PopularityWindow(scorer.size))
    assert (found.shape, found.dtype) == ((0,), np.float32)


def test_a_time_of_asking_before_the_history_is_answered_with_numbers(scorer: Scorer) -> None:
    assert np.isfinite(ranked(scorer, Query(history("i1", "i2"), {}, NOW - small.DAY_MS))).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "many"])
def test_a_users_feature_that_is_no_number_counts_as_unknown(scorer: Scorer, value: float | str) -> None:
    past = history("i1", "i2")
    odd = ask(scorer, past, {"interactions_total": value, "mean_value": value})
    assert ranked(scorer, odd) == ranked(scorer, ask(scorer, past))


@pytest.mark.parametrize("text", ["no JSON", "[1, 2]", '{"age": NaN}', '{"age": [1]}'])
def test_attributes_of_a_user_that_cannot_be_read_count_as_none(scorer: Scorer, text: str) -> None:
    past = history("i1", "i2")
    assert ranked(scorer, ask(scorer, past, {"attributes": text})) == ranked(scorer, ask(scorer, past))


@pytest.mark.parametrize("value", [math.nan, math.inf, "old"])
def test_an_items_attribute_that_is_no_number_counts_as_unknown(artifact: Path, value: float | str) -> None:
    odd, plain = Scorer.load(artifact), Scorer.load(artifact)
    odd.add_item(ItemContent(ItemId("fresh"), attributes={"year": value}))
    plain.add_item(ItemContent(ItemId("fresh"), attributes={}))
    query = ask(odd, history("i1", "i2"))
    assert ranked(odd, query) == ranked(plain, query)
    assert np.isfinite(ranked(odd, query)).all()


def tables(change: Callable[[dict[str, pa.Table]], None]) -> Tables:
    """The small world's tables after a change."""
    found = {name: table for name, table in small.lake_tables().items() if name != "user_features"}
    change(found)
    return Tables(**found, until=NOW)


def spoil(table: str, column: str, value: float | str) -> Callable[[dict[str, pa.Table]], None]:
    """Put a value into every second row of a column."""

    def change(found: dict[str, pa.Table]) -> None:
        rows = found[table]
        values = rows[column].to_pylist()
        values[::2] = [value] * len(values[::2])
        spoilt = pa.array(values, rows[column].type)
        found[table] = rows.set_column(rows.schema.get_field_index(column), column, spoilt)

    return change


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("interactions", "value"),
        ("item_features", "item_mean_value"),
        ("examples", "item_mean_value"),
        ("examples", "mean_value"),
    ],
)
def test_a_feature_in_the_lake_that_is_no_number_never_reaches_training(table: str, column: str, value: float) -> None:
    found = training_data(tables(spoil(table, column, value)))
    assert math.isfinite(found.fill_value)
    for values in (found.item_features.mean_value, found.item_features.interactions_total, found.groups.mean_value):
        assert np.isfinite(values).all()
    fitted = fit(found, small.SETTINGS, Lineage({}, small.SEED, "test"), Timer(lambda _name, _share: None))
    assert math.isfinite(fitted.metrics["ranking_loss_last"])


def test_an_event_of_an_unknown_kind_is_named() -> None:
    with pytest.raises(UnknownKind, match="kind 'poke', which this release does not know"):
        training_data(tables(spoil("interactions", "kind", "poke")))


def one_item(found: dict[str, pa.Table]) -> None:
    """Make every event and every positive example one of the same item."""
    for name, rows in found.items():
        same = pa.array(["i3"] * len(rows), pa.string())
        found[name] = rows.set_column(rows.schema.get_field_index("item_id"), "item_id", same)
    found["examples"] = found["examples"].filter(pc.equal(found["examples"]["label"], 1))


def test_a_catalogue_of_one_item_is_trained_and_answered(tmp_path: Path) -> None:
    found = training_data(tables(one_item))
    assert len(found.items) == 1
    fitted = fit(found, small.SETTINGS, Lineage({}, small.SEED, "test"), Timer(lambda _name, _share: None))
    write_artifact(tmp_path / "artifact", artifact_parts(fitted, found))
    scorer = Scorer.load(tmp_path / "artifact")
    query = ask(scorer, history("i3", "unknown"))
    assert scorer.retrieve(query, 10).rows.tolist() == [0]
    assert np.isfinite(scorer.rank(query, np.array([0]), PopularityWindow(1))).all()
    assert scorer.similar(scorer.add_item(ItemContent(ItemId("i3"))), 5).rows.tolist() == []


def test_training_without_a_single_history_says_what_is_missing() -> None:
    """Users come to an item once, so that the events of one item alone are everybody's first."""

    def events_of_one_item(found: dict[str, pa.Table]) -> None:
        for name, rows in found.items():
            found[name] = rows.filter(pc.equal(rows["item_id"], "i3"))

    found = training_data(tables(events_of_one_item))
    with pytest.raises(NotEnoughData, match="no labelled example is of a user with a history"):
        fit(found, small.SETTINGS, Lineage({}, small.SEED, "test"), Timer(lambda _name, _share: None))


@pytest.fixture
def copy(artifact: Path, tmp_path: Path) -> Path:
    shutil.copytree(artifact, tmp_path / "copy")
    return tmp_path / "copy"


def test_an_artifact_whose_ranker_reads_other_features_says_what_to_do(copy: Path) -> None:
    spec = json.loads((copy / SPEC).read_text())
    spec["ranking"]["features"] = spec["ranking"]["features"][1:]
    (copy / SPEC).write_text(json.dumps(spec))
    resign(copy)
    with pytest.raises(CorruptArtifact, match="train it again"):
        Scorer.load(copy)


def test_a_file_that_is_no_network_is_named(copy: Path) -> None:
    (copy / USER_TOWER).write_bytes(b"not a network")
    resign(copy)
    with pytest.raises(CorruptArtifact, match=USER_TOWER):
        Scorer.load(copy)


def test_a_table_of_another_type_is_named(copy: Path) -> None:
    np.save(copy / "item_vectors.npy", np.zeros((3, 3)))
    resign(copy)
    with pytest.raises(CorruptArtifact, match=r"item_vectors\.npy' holds float64, not float32"):
        Scorer.load(copy)


def test_a_spec_that_cannot_be_read_is_named(copy: Path) -> None:
    (copy / SPEC).write_text('{"retrieval": 1}')
    resign(copy)
    with pytest.raises(CorruptArtifact, match=SPEC):
        Scorer.load(copy)


def test_a_folder_that_is_no_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptArtifact, match=MANIFEST):
        Scorer.load(tmp_path)
