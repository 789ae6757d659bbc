"""The state that requests are computed on: catalogue, columns, popularity, and the exchange of models beneath them."""

import asyncio
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features import popularity as popularity_module
from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.scorer import Scorer
from services.recommend.candidates import _merged, most_used, usage
from services.recommend.columns import Columns
from services.recommend.engine import Engine
from services.recommend.filters import may_show
from services.recommend.live import Live
from services.recommend.pipeline import Ask, Slate, Stopwatch, choose
from services.recommend.similar import Like, Similar, find_similar
from services.recommend.state import NOBODY, State
from services.recommend.surfaces import BUILT_IN, Filters
from streaming.consumer import Received
from streaming.events import Event, Interaction, ItemRemoved, ItemUpserted, Kind
from streaming.ids import EventId, ItemId

NOW = 1_790_000_000_000
ENVELOPE: dict[str, Any] = {"received_at": NOW, "producer": "test"}


def upserted(item_id: str, **fields: Any) -> ItemUpserted:
    return ItemUpserted(event_id=f"put-{item_id}", happened_at=NOW, item_id=item_id, **ENVELOPE, **fields)


_numbers = count()


def used(item_id: str, at: int = NOW - 1_000, kind: Kind = Kind.VIEW, surface: str | None = None) -> Interaction:
    return Interaction(
        event_id=f"use-{next(_numbers)}",
        happened_at=at,
        item_id=item_id,
        kind=kind,
        user_id="u",
        surface=surface,
        **ENVELOPE,
    )


def uses(number: int, item_id: str, **fields: Any) -> list[Interaction]:
    return [used(item_id, **fields) for _ in range(number)]


def records(*events: Event | None, key: str = "") -> list[Received]:
    return [Received(event, key.encode(), "topic", 3, offset, NOW) for offset, event in enumerate(events)]


@pytest.fixture
def engine() -> Engine:
    return Engine()


def ask(engine: Engine, n: int = 10, **fields: Any) -> Slate:
    question = Ask(n=n, surface=BUILT_IN["probe"], as_of=NOW, seed=None, **fields)
    return asyncio.run(engine.compute(lambda live: choose(live, question, NOBODY, Stopwatch(lambda: 0.0))))


def shown(engine: Engine, **fields: Any) -> list[str]:
    return [item.item_id for item in ask(engine, **fields).items]


def test_an_item_appears_changes_and_goes_with_the_log(engine: Engine) -> None:
    engine.apply_items(records(upserted("a"), upserted("b", categories=["x"])))
    assert set(shown(engine)) == {"a", "b"}
    engine.apply_items(records(upserted("a", hidden=True)))
    assert shown(engine) == ["b"]
    engine.apply_items(records(upserted("a", categories=["x", "y"])))
    assert shown(engine, categories=["y"]) == ["a"]
    engine.apply_items(records(ItemRemoved(event_id="r", happened_at=NOW, item_id="a", **ENVELOPE)))
    assert shown(engine) == ["b"]
    engine.apply_items(records(None, key="b"))
    assert shown(engine) == []
    assert engine.offsets.catalogue == {"3": 1}


def test_popularity_orders_and_leaves_out_negative_feedback_and_our_own_probes(engine: Engine) -> None:
    engine.apply_items(records(*(upserted(item) for item in "abc")))
    engine.apply_interactions(records(used("b"), used("b"), used("c")))
    engine.apply_interactions(records(*uses(5, "a", kind=Kind.HIDE), *uses(5, "a", surface="probe")))
    slate = ask(engine)
    assert [item.item_id for item in slate.items] == ["b", "c", "a"]
    assert [item.score for item in slate.items] == [2, 1, 0]
    engine.forget_interactions()
    assert {item.score for item in ask(engine).items} == {0}


def test_an_interaction_that_is_sent_again_counts_once(engine: Engine) -> None:
    engine.apply_items(records(upserted("a"), upserted("b")))
    once = used("a")
    engine.apply_interactions(records(once, once, *uses(2, "b")))
    engine.apply_interactions(records(once))
    assert [(item.item_id, item.score) for item in ask(engine).items] == [("b", 2), ("a", 1)]
    # The log is read again from its beginning after a failure.
    engine.forget_interactions()
    engine.apply_interactions(records(once))
    assert shown(engine) == ["a", "b"]


def test_interactions_older_than_a_month_do_not_count(engine: Engine) -> None:
    engine.apply_items(records(upserted("old"), upserted("new")))
    engine.apply_interactions(records(*uses(9, "old", at=NOW - 40 * 86_400_000), used("new")))
    assert shown(engine) == ["new", "old"]


def test_a_slate_is_filled_from_the_whole_catalogue_when_the_sources_name_too_little(engine: Engine) -> None:
    engine.apply_items(records(*(upserted(f"i{number}") for number in range(30))))
    engine.apply_interactions(records(used("i7")))
    slate = ask(engine, n=30)
    assert len({item.item_id for item in slate.items}) == 30
    assert slate.items[0].source == "trending"
    assert {item.source for item in slate.items[1:]} == {"catalogue"}


def test_a_model_takes_over_with_the_popularity_and_the_changes_made_meanwhile(
    engine: Engine, artifact: tuple[Path, str], world: Any
) -> None:
    engine.apply_items(records(*world.items, upserted("cold", categories=["novelty"])))
    engine.apply_interactions(records(*uses(5, "i7"), *uses(3, "cold")))
    before = shown(engine, n=2)
    assert before == ["i7", "cold"]
    engine.swap(Scorer.load(artifact[0]))
    after = ask(engine, n=2)
    assert [item.item_id for item in after.items] == before
    assert after.model_version == artifact[1] == engine.model_version
    live = asyncio.run(engine.compute(lambda live: live))
    assert [live.rows.item_id(row) for row in live.unproven_rows] == ["cold"]
    # A second exchange carries the counts from one model's rows to the other's.
    engine.apply_items(records(upserted("colder"), upserted("i7", hidden=True)))
    engine.apply_interactions(records(*uses(9, "colder")))
    engine.swap(Scorer.load(artifact[0]))
    assert shown(engine, n=2) == ["colder", "cold"]


def test_what_changes_while_a_model_is_laid_out_is_not_lost(
    engine: Engine, artifact: tuple[Path, str], world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.apply_items(records(*world.items))
    lay_out = Live.laid_out

    def lay_out_slowly(*arguments: Any) -> Live:
        laid_out = lay_out(*arguments)
        gone = ItemRemoved(event_id="r", happened_at=NOW, item_id="i1", **ENVELOPE)
        engine.apply_items(records(upserted("late", categories=["novelty"]), upserted("i0", hidden=True), gone))
        return laid_out

    monkeypatch.setattr(Live, "laid_out", lay_out_slowly)
    engine.swap(Scorer.load(artifact[0]))
    assert shown(engine, categories=["novelty"]) == ["late"]
    assert {"i0", "i1"}.isdisjoint(shown(engine, n=100))
    assert len(shown(engine, n=100)) == len(world.items) - 1


def test_seen_items_are_never_shown_whatever_the_source(engine: Engine, artifact: tuple[Path, str], world: Any) -> None:
    engine.apply_items(records(*world.items))
    engine.apply_interactions(records(*world.interactions))
    engine.swap(Scorer.load(artifact[0]))
    for user in range(10):
        history = [event for event in world.interactions if event.user_id == f"u{user}"]
        events = tuple(
            HistoryEvent(event.happened_at, EventId(event.event_id), ItemId(event.item_id), event.kind, event.value)
            for event in history
        )
        seen = frozenset(ItemId(event.item_id) for event in history)
        state = State(History(events), seen, {})
        question = Ask(n=100, surface=BUILT_IN["home"], as_of=world.now, seed=user)
        slate = asyncio.run(
            engine.compute(lambda live, q=question, s=state: choose(live, q, s, Stopwatch(lambda: 0.0)))
        )
        assert {item.item_id for item in slate.items} == {item.item_id for item in world.items} - seen


def similar(engine: Engine, item_id: str, n: int = 5, **fields: Any) -> Similar | None:
    like = Like(ItemId(item_id), n, NOW, **({"categories": (), "exclude": ()} | fields))
    return asyncio.run(engine.compute(lambda live: find_similar(live, like)))


def test_without_a_model_similar_items_share_a_category_first(engine: Engine) -> None:
    engine.apply_items(records(upserted("a", categories=["x"]), upserted("b"), upserted("c", categories=["x", "y"])))
    engine.apply_interactions(records(used("b")))
    found = similar(engine, "a")
    assert found is not None
    assert [(item.item_id, item.source) for item in found.items] == [("c", "category"), ("b", "popular")]
    assert found.fallbacks == ("no_model",)
    assert similar(engine, "unknown") is None


def test_similar_items_respect_filters_and_never_repeat(engine: Engine, artifact: tuple[Path, str], world: Any) -> None:
    engine.apply_items(records(*world.items))
    engine.swap(Scorer.load(artifact[0]))
    for item in world.items[:10]:
        found = similar(engine, item.item_id, 40, exclude=["i5"])
        assert found is not None
        ids = [one.item_id for one in found.items]
        assert len(set(ids)) == len(ids) == 40
        assert {item.item_id, "i5"}.isdisjoint(ids)
    some = similar(engine, "i0", 20, filters=Filters(exclude_categories=("drama",)))
    assert some is not None
    assert len(some.items) == 20
    assert {int(one.item_id[1:]) % 3 for one in some.items} == {1, 2}
    only = similar(engine, "i0", 40, categories=["horror"])
    assert only is not None
    assert {int(one.item_id[1:]) % 3 for one in only.items} == {2}


ITEM_IDS = st.sampled_from("abcdefgh")


@given(
    changes=st.lists(
        st.tuples(
            ITEM_IDS,
            st.one_of(
                st.none(),
                st.tuples(st.booleans(), st.integers(0, 3), st.integers(1, 4), st.lists(st.sampled_from("xyz"))),
            ),
        )
    ),
    barred=st.sets(ITEM_IDS),
    categories=st.lists(st.sampled_from("xyz"), max_size=2),
    as_of=st.integers(0, 4),
)
def test_what_may_be_shown_is_what_a_scan_of_the_items_says(
    changes: list[tuple[str, tuple[bool, int, int, list[str]] | None]],
    barred: set[str],
    categories: list[str],
    as_of: int,
) -> None:
    live = Live.build(None, (), PopularityWindow())
    items: dict[str, tuple[bool, int, int, list[str]]] = {}
    for item_id, item in changes:
        if item is None:
            live.remove(ItemId(item_id))
            items.pop(item_id, None)
        else:
            hidden, starts, ends, member = item
            live.put(upserted(item_id, hidden=hidden, available_from=starts, available_until=ends, categories=member))
            items[item_id] = item
    expected = {
        item_id
        for item_id, (hidden, starts, ends, member) in items.items()
        if not hidden
        and starts <= as_of < ends
        and item_id not in barred
        and (not categories or set(member) & set(categories))
    }
    allowed = may_show(live, as_of, map(ItemId, barred), categories)
    assert {live.rows.item_id(row) for row in allowed.rows.tolist()} == expected


@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 7),
            st.one_of(st.none(), st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 9))),
            st.lists(st.integers(-1, 10), max_size=3),
        )
    )
)
def test_what_is_eligible_is_worked_out_anew_when_items_or_times_change(
    steps: list[tuple[int, tuple[bool, int, int] | None, list[int]]],
) -> None:
    columns = Columns()
    items: dict[int, tuple[bool, int, int]] = {}
    for row, item, times in steps:
        if item is None:
            columns.remove(row)
            items.pop(row, None)
        else:
            hidden, starts, ends = items[row] = item
            columns.put(row, upserted(str(row), hidden=hidden, available_from=starts, available_until=ends))
        for as_of in times:
            expected = [at for at, (hidden, starts, ends) in items.items() if not hidden and starts <= as_of < ends]
            mask = columns.eligible(as_of)
            assert np.flatnonzero(mask).tolist() == sorted(expected)
            mask[:] = True  # what a request bars must not stay barred


@given(st.lists(st.tuples(st.integers(0, 20), st.lists(st.sampled_from("xyz"), max_size=4)), max_size=20))
def test_rows_in_categories_come_once_and_ascending(items: list[tuple[int, list[str]]]) -> None:
    columns = Columns()
    for row, categories in items:
        columns.put(row, upserted(str(row), categories=categories))
    for asked in ([], ["x"], ["y", "x"], ["z", "y", "x", "z", "nothing"]):
        expected = {row for row, categories in dict(items).items() if {*asked} & {*categories}}
        assert columns.in_any(asked).tolist() == sorted(expected)


def test_rows_that_the_catalogue_never_had_are_not_allowed() -> None:
    columns = Columns()
    columns.put(2, upserted("a"))
    assert columns.eligible(NOW).tolist() == [False, False, True]
    columns.remove(7)
    assert not columns.has(7)
    assert columns.in_any(["nothing"]).tolist() == []
    assert np.flatnonzero(columns.eligible(NOW)).tolist() == [2]


@given(
    times=st.lists(st.tuples(ITEM_IDS, st.integers(0, 40)), max_size=40),
    later=st.lists(st.tuples(ITEM_IDS, st.integers(0, 40)), max_size=40),
    barred=st.sets(ITEM_IDS),
    k=st.integers(1, 9),
)
def test_the_most_used_are_those_of_sorting_everything(
    times: list[tuple[str, int]], later: list[tuple[str, int]], barred: set[str], k: int
) -> None:
    live = Live.build(None, map(upserted, "abcdefgh"), PopularityWindow())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(popularity_module, "_LEADERS", 2)
        for some in (times, later):
            live.observe(used(item_id, at=NOW - days * 86_400_000) for item_id, days in some)
            allowed = may_show(live, NOW, map(ItemId, barred), ())
            counts = usage(live, allowed.rows, NOW, 7)
            order = np.argsort(-counts, kind="stable")
            expected = allowed.rows[order[counts[order] > 0]][:k].tolist()
            assert most_used(live, allowed, NOW, 7, k).tolist() == expected


@given(st.lists(st.lists(st.integers(0, 20), unique=True, max_size=8), min_size=1, max_size=4))
def test_the_first_source_to_name_a_row_keeps_it(found: list[list[int]]) -> None:
    names = [f"source-{number}" for number in range(len(found))]
    expected: dict[int, str] = {}
    for name, rows in zip(names, found, strict=True):
        for row in rows:
            expected.setdefault(row, name)
    merged = _merged([np.array(rows, dtype=np.int64) for rows in found], names)
    assert merged.rows.tolist() == sorted(expected)
    assert [names[source] for source in merged.sources.tolist()] == [expected[row] for row in sorted(expected)]
