"""What a start goes on from: the catalogue as columns, kept in files, and when the files are not to be trusted."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.popularity import DayCounts, PopularityWindow
from services.recommend.catalogue import Catalogue
from services.recommend.engine import Engine
from services.recommend.followed import Followed, Offsets, Uses
from services.recommend.item_table import ItemTable
from services.recommend.live import Live
from services.recommend.ragged import joined_texts
from services.recommend.snapshots import MANIFEST, Snapshots
from services.recommend.surfaces import Predicate
from streaming.consumer import Received
from streaming.events import Interaction, ItemRemoved, ItemUpserted, Kind
from streaming.ids import ItemId
from streaming.topic_state import TopicState

NOW = 1_790_000_000_000
HOUR_MS = 3_600_000
IDS = {"shop.items": "id-of-items", "shop.interactions": "id-of-interactions"}

values = st.one_of(st.booleans(), st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from(["true", "1", "ä"]))
items = st.builds(
    lambda item_id, **fields: ItemUpserted(
        event_id=f"put-{item_id}", happened_at=NOW, received_at=NOW, producer="test", item_id=item_id, **fields
    ),
    item_id=st.sampled_from([*"abcdefgh", "ü"]),
    title=st.sampled_from(["", "Straße"]),
    categories=st.lists(st.sampled_from(["x", "y", "ž"]), max_size=3),
    attributes=st.dictionaries(st.sampled_from(["colour", "größe"]), values),
    hidden=st.booleans(),
    available_from=st.one_of(st.none(), st.integers(0, NOW)),
    available_until=st.one_of(st.none(), st.integers(0, NOW)),
)
changes = st.lists(st.one_of(items, st.sampled_from([*"abcdefgh", "ü"])), max_size=12)


def apply(catalogue: Catalogue, made: list[Any]) -> None:
    for offset, change in enumerate(made):
        if isinstance(change, str):
            change = ItemRemoved(  # noqa: PLW2901
                event_id="gone", happened_at=NOW, received_at=NOW, producer="test", item_id=change
            )
        catalogue.apply(Received(change, None, "shop.items", 0, offset, NOW))


def after(made: list[Any]) -> dict[str, ItemUpserted]:
    found: dict[str, ItemUpserted] = {}
    for change in made:
        if isinstance(change, str):
            found.pop(change, None)
        else:
            found[change.item_id] = change
    return found


def answers(live: Live) -> dict[str, Any]:
    """Everything that columns say of each item that is there."""
    predicates = [Predicate(attribute="colour", equals=value) for value in (True, 1.0, "1", "true")]
    predicates.append(Predicate(attribute="größe", at_least=1.0))
    matching = [live.columns.matching(predicate) for predicate in predicates]
    eligible = live.columns.eligible(NOW // 2)
    members = {name: set(live.columns.in_any([name]).tolist()) for name in ("x", "y", "ž", "nothing")}
    return {
        live.rows.item_id(row): (  # type: ignore[arg-type]
            live.columns.has(row),
            bool(eligible[row]),
            tuple(live.columns.categories(row)),
            [bool(mask[row]) for mask in matching],
            {name for name, rows in members.items() if row in rows},
        )
        for row in range(live.columns.size)
    }


@given(first=changes, second=changes, third=changes)
def test_a_catalogue_folded_again_and_again_is_what_the_records_say(
    first: list[Any], second: list[Any], third: list[Any]
) -> None:
    catalogue = Catalogue()
    apply(catalogue, first)
    held = catalogue.held()
    apply(catalogue, second)  # while the first part is folded
    since = catalogue.fold(held, held.folded())
    assert {item_id for item_id, item in since.items() if item is not None} <= {
        item.item_id for item in second if not isinstance(item, str)
    }
    apply(catalogue, third)
    table = catalogue.held().folded()
    expected = after([*first, *second, *third])
    assert {table.item(place).item_id: table.item(place) for place in range(len(table))} == expected
    assert sorted(table.ids()) == sorted(expected)


@given(laid_out=changes, changed=changes)
def test_items_laid_out_together_are_as_if_put_one_by_one(laid_out: list[Any], changed: list[Any]) -> None:
    catalogue = Catalogue()
    apply(catalogue, laid_out)
    together = Live.laid_out(None, catalogue.held().folded(), PopularityWindow())
    one_by_one = Live.build(None, (), PopularityWindow())
    for change in laid_out:
        one_by_one.change(change)
    answers(together)  # the columns of attributes are made before the changes
    for change in changed:
        together.change(change)
        one_by_one.change(change)
    there = after([*laid_out, *changed])
    expected, found = answers(one_by_one), answers(together)
    assert {item_id: found[item_id] for item_id in there} == {item_id: expected[item_id] for item_id in there}
    assert all(found[item_id] == (False, False, (), [False] * 5, set()) for item_id in found.keys() - there.keys())


def followed(*given: ItemUpserted) -> Followed:
    counts = DayCounts(np.array([0, 0, 1]), np.array([20_700, 20_701, 20_701]), np.array([3, 1, 2]))
    uses = Uses(joined_texts(["a", "b"]), counts, np.array([5, 2**64 - 1], dtype=np.uint64))
    return Followed(ItemTable.of(given), uses, Offsets({"0": 7, "3": 2}, {"1": 9}))


def state(topic: str, **fields: Any) -> TopicState:
    ends = dict.fromkeys(range(4), 100)
    return replace(TopicState(IDS[topic], dict.fromkeys(range(4), 0), ends, 24 * HOUR_MS), **fields)


def states(**items: Any) -> dict[str, TopicState]:
    return {"shop.items": state("shop.items", **items), "shop.interactions": state("shop.interactions")}


ITEM = ItemUpserted(
    event_id="put-a",
    happened_at=NOW,
    received_at=NOW,
    producer="test",
    item_id="a",
    title="A title",
    categories=["x"],
    attributes={"year": 1999.0, "flag": True},
)


def kept_in(folder: Path, now: int = NOW) -> Snapshots:
    return Snapshots(folder, "shop.items", "shop.interactions", lambda: now)


def test_a_snapshot_gives_back_what_was_kept_and_only_the_newest_stays(tmp_path: Path) -> None:
    snapshots = kept_in(tmp_path)
    assert snapshots.newest(states()) is None
    snapshots.write(followed(), IDS)
    snapshots.write(followed(ITEM), IDS)
    assert len(list(tmp_path.glob("0*"))) == 1
    found = snapshots.newest(states())
    assert found is not None
    assert found.table.item(0) == ITEM
    assert found.table.ids() == ["a"]
    assert found.table.category_names == ("x",)
    assert {name: one.distinct() for name, one in found.table.attributes.items()} == {"year": [1999.0], "flag": [True]}
    assert found.offsets == Offsets({"0": 7, "3": 2}, {"1": 9})
    assert found.uses.counts.counts.tolist() == [3, 1, 2]
    assert found.uses.lately.tolist() == [5, 2**64 - 1]


def test_an_empty_catalogue_can_be_kept(tmp_path: Path) -> None:
    engine = Engine()
    engine.keep(lambda all_of_it: kept_in(tmp_path).write(all_of_it, IDS))
    found = kept_in(tmp_path).newest(states())
    assert found is not None
    assert len(found.table) == 0


@pytest.mark.parametrize("name", ["records.npy", "shown.npy", "used_counts.npy", MANIFEST])
def test_a_damaged_snapshot_is_not_used(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    kept_in(tmp_path).write(followed(ITEM), IDS)
    file = next(tmp_path.glob(f"0*/{name}"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert kept_in(tmp_path).newest(states()) is None
    assert "read from the log" in caplog.text


def test_a_snapshot_that_misses_a_file_is_not_used(tmp_path: Path) -> None:
    kept_in(tmp_path).write(followed(ITEM), IDS)
    next(tmp_path.glob("0*/ends.npy")).unlink()
    assert kept_in(tmp_path).newest(states()) is None


@pytest.mark.parametrize(
    ("later_ms", "now_is", "reason"),
    [
        (12 * HOUR_MS + 1, {}, "half of delete.retention.ms"),
        (-1, {}, "half of delete.retention.ms"),
        (0, {"topic_id": "made again"}, "of other topics"),
        (0, {"topic_id": None}, "of other topics"),
        (0, {"end": {0: 6, 3: 9}}, "ends before it"),
        (0, {"end": {0: 9}}, "ends before it"),
        (0, {"first": {0: 8, 3: 0}}, "begins after it"),
        (0, {"first": {0: 0, 2: 1}}, "begins after it"),
    ],
)
def test_a_snapshot_that_does_not_lead_to_the_log_of_now_is_not_used(
    tmp_path: Path, later_ms: int, now_is: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept_in(tmp_path).write(followed(ITEM), IDS)
    assert kept_in(tmp_path, NOW + 12 * HOUR_MS).newest(states()) is not None
    assert kept_in(tmp_path, NOW + later_ms).newest(states(**now_is)) is None
    assert reason in caplog.text


def test_a_snapshot_of_another_format_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept_in(tmp_path).write(followed(ITEM), IDS)
    manifest = next(tmp_path.glob(f"0*/{MANIFEST}"))
    content = json.loads(manifest.read_bytes())
    manifest.write_text(json.dumps(content | {"format_version": content["format_version"] + 1}))
    assert kept_in(tmp_path).newest(states()) is None
    assert "format" in caplog.text


def test_an_engine_goes_on_from_what_another_has_kept(tmp_path: Path) -> None:
    one, other = Engine(), Engine()
    one.apply_items([Received(ITEM, b"a", "shop.items", 0, 6, NOW)])
    once = [Received(use("first"), b"u", "shop.interactions", 1, 8, NOW)]
    one.apply_interactions(once)
    one.keep(lambda all_of_it: kept_in(tmp_path).write(all_of_it, IDS))
    found = kept_in(tmp_path).newest(states())
    assert found is not None
    other.gather()
    other.restore_items(found)
    other.swap(None)
    other.restore_interactions(found)
    assert other.offsets == one.offsets == Offsets({"0": 7}, {"1": 9})
    other.apply_interactions([*once, Received(use("second"), b"u", "shop.interactions", 1, 9, NOW)])
    assert uses_of(other, "a") == 2  # the first was sent again, which does not count


def use(event_id: str) -> Interaction:
    return Interaction(
        event_id=event_id, happened_at=NOW, received_at=NOW, producer="test", item_id="a", kind=Kind.VIEW, user_id="u"
    )


def uses_of(engine: Engine, item_id: str) -> int:
    def count(live: Live) -> int:
        return int(live.popularity.counts(NOW, 7)[live.rows_of([ItemId(item_id)])][0])

    return asyncio.run(engine.compute(count))
