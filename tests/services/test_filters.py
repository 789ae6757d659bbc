"""Filters of a surface: what they leave out, and that a slate is full while anything is left."""

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from services.recommend.candidates import MOST_FILLED
from services.recommend.filters import may_show
from services.recommend.live import Live
from services.recommend.pipeline import Ask, Stopwatch, choose
from services.recommend.state import NOBODY, State
from services.recommend.surfaces import (
    BUILT_IN_RULES,
    Exploration,
    Fatigue,
    Filters,
    Predicate,
    Rules,
    Seen,
    in_force,
)
from streaming.events import ItemUpserted, Kind
from streaming.ids import EventId, ItemId

NOW = 1_790_000_000_000
DAY_MS = 86_400_000
CATEGORIES = "xyz"


def item(number: int, **fields: Any) -> ItemUpserted:
    return ItemUpserted(
        event_id=f"put-{number}", happened_at=NOW, received_at=NOW, producer="test", item_id=f"i{number}", **fields
    )


def live_with(items: Iterable[ItemUpserted]) -> Live:
    return Live.build(None, items, PopularityWindow())


def after(*acts: tuple[int, Kind, float]) -> State:
    """The state of a user who acted on items so many days ago."""
    events = [
        HistoryEvent(int(NOW - days * DAY_MS), EventId(f"e{order}"), ItemId(f"i{number}"), kind)
        for order, (number, kind, days) in enumerate(acts)
    ]
    history = History(tuple(sorted(events)))
    return State(history, frozenset(history.items), {})


def shown(live: Live, filters: Filters, state: State = NOBODY, n: int = 50, seed: int | None = None) -> list[str]:
    rules = Rules(filters=filters, exploration=Exploration(temperature=0.5))
    ask = Ask(n=n, surface=in_force(BUILT_IN_RULES | {"home": rules}, {})["home"], as_of=NOW, seed=seed)
    return [one.item_id for one in choose(live, ask, state, Stopwatch(lambda: 0.0)).items]


def test_seen_counts_only_within_its_window_and_of_its_kinds() -> None:
    live = live_with(item(number) for number in range(5))
    state = after((0, Kind.VIEW, 1), (1, Kind.PURCHASE, 1), (2, Kind.PURCHASE, 40))
    left_out = {
        Filters(): {"i0", "i1", "i2"},
        Filters(seen=Seen(days=30)): {"i0", "i1"},
        Filters(seen=Seen(kinds=(Kind.PURCHASE,))): {"i1", "i2"},
        Filters(seen=Seen(days=30, kinds=(Kind.PURCHASE,))): {"i1"},
        Filters(seen=Seen(kinds=())): set(),
    }
    for filters, missing in left_out.items():
        assert set(shown(live, filters, state)) == {f"i{number}" for number in range(5)} - missing


def test_what_was_skipped_or_hidden_lately_and_tired_categories_stay_away() -> None:
    live = live_with(item(number, categories=[CATEGORIES[number % 3]]) for number in range(9))
    hide, skip = Kind.HIDE, Kind.SKIP
    state = after((0, hide, 1), (3, hide, 2), (1, skip, 1), (4, skip, 1), (2, hide, 1), (5, hide, 20))
    seen = Seen(kinds=())
    everything = {f"i{number}" for number in range(9)}
    few_days = Filters(seen=seen, fatigue=Fatigue(days=10))
    assert set(shown(live, few_days, state)) == everything - {"i0", "i3", "i1", "i4", "i2"}
    hidden_alone = Filters(seen=seen, fatigue=Fatigue(days=10, kinds=(hide,)))
    assert set(shown(live, hidden_alone, state)) == everything - {"i0", "i3", "i2"}
    # Two of x were hidden within the window; of y none, they were skipped; of z one.
    tired = Filters(seen=seen, fatigue=Fatigue(days=10, category_after=2))
    assert set(shown(live, tired, state)) == {"i7", "i5", "i8"}


def test_an_attribute_is_compared_by_kind_and_value_and_follows_the_item() -> None:
    live = live_with(
        [
            item(0, attributes={"a": 1.0}),
            item(1, attributes={"a": True}),
            item(2, attributes={"a": "1"}),
            item(3, attributes={"a": 7.5}),
            item(4),
        ]
    )

    def kept(**conditions: Any) -> set[str]:
        return set(shown(live, Filters(attributes=(Predicate(attribute="a", **conditions),))))

    assert kept(equals=1.0) == {"i0"}
    assert kept(equals=True) == {"i1"}
    assert kept(equals="1") == {"i2"}
    assert kept(equals="never") == set()
    assert kept(among=(1.0, "1", "never")) == {"i0", "i2"}
    assert kept(at_least=1.0) == {"i0", "i3"}
    assert kept(at_least=1.0, at_most=7.0) == {"i0"}
    live.put(item(4, attributes={"a": "1"}))
    live.put(item(2))
    live.put(item(5, attributes={"a": "1"}))
    assert kept(equals="1") == {"i4", "i5"}
    live.remove(ItemId("i5"))
    assert kept(equals="1") == {"i4"}


ATTRIBUTES = st.dictionaries(st.sampled_from("ab"), st.one_of(st.integers(0, 3).map(float), st.sampled_from("pq")))
ITEMS = st.lists(st.tuples(st.lists(st.sampled_from(CATEGORIES)), ATTRIBUTES, st.booleans()), max_size=40)
PREDICATES = st.one_of(
    st.builds(Predicate, attribute=st.sampled_from("ab"), equals=st.sampled_from((1.0, 2.0, "p"))),
    st.builds(Predicate, attribute=st.sampled_from("ab"), among=st.just((0.0, 3.0, "q"))),
    st.builds(Predicate, attribute=st.sampled_from("ab"), at_least=st.just(1.0), at_most=st.just(2.0)),
)
ACTS = st.lists(st.tuples(st.integers(0, 39), st.sampled_from(Kind), st.floats(0.1, 60)), max_size=10)
SEEN = st.builds(
    Seen, days=st.sampled_from((None, 5, 30)), kinds=st.sampled_from((None, (), (Kind.VIEW, Kind.PURCHASE)))
)
FILTERS = st.builds(
    Filters,
    seen=SEEN,
    include_categories=st.sampled_from(((), ("x",), ("x", "y", "none"))),
    exclude_categories=st.sampled_from(((), ("z",), ("y", "none"))),
    attributes=st.lists(PREDICATES, max_size=2).map(tuple),
    fatigue=st.one_of(st.none(), st.builds(Fatigue, days=st.just(20), category_after=st.sampled_from((None, 1, 2)))),
)


def satisfies(attributes: dict[str, Any], predicate: Predicate) -> bool:
    value = attributes.get(predicate.attribute)
    if value is None:
        return False
    if predicate.at_least is not None:
        return isinstance(value, float) and 1.0 <= value <= 2.0
    return value == predicate.equals or value in (predicate.among or ())


def acted(acts: list[Any], number: int, days: float | None, kinds: Sequence[Kind] | None) -> bool:
    return any(
        one == number and (days is None or ago <= days) and (kinds is None or kind in kinds) for one, kind, ago in acts
    )


def is_tired_of(categories: Sequence[str], items: list[Any], acts: list[Any], fatigue: Fatigue) -> bool:
    hidden = [number for number, kind, ago in acts if kind is Kind.HIDE and ago <= fatigue.days and number < len(items)]
    return fatigue.category_after is not None and any(
        sum(category in items[number][0] for number in hidden) >= fatigue.category_after for category in categories
    )


def may_be_shown(number: int, items: list[Any], acts: list[Any], filters: Filters) -> bool:
    """The filters in plain words, for one item."""
    categories, attributes, hidden = items[number]
    seen, fatigue = filters.seen, filters.fatigue
    wanted = not filters.include_categories or set(categories) & set(filters.include_categories)
    disliked = fatigue is not None and (
        acted(acts, number, fatigue.days, fatigue.kinds) or is_tired_of(categories, items, acts, fatigue)
    )
    return (
        not hidden
        and bool(wanted)
        and not set(categories) & set(filters.exclude_categories)
        and all(satisfies(attributes, predicate) for predicate in filters.attributes)
        and not acted(acts, number, seen.days, seen.kinds)
        and not disliked
    )


@given(items=ITEMS, acts=ACTS, filters=FILTERS, n=st.integers(1, 50), seed=st.integers(0, 99))
def test_a_slate_is_full_while_items_may_be_shown_and_holds_no_other(
    items: list[Any], acts: list[Any], filters: Filters, n: int, seed: int
) -> None:
    live = live_with(
        item(number, categories=categories, attributes=attributes, hidden=hidden)
        for number, (categories, attributes, hidden) in enumerate(items)
    )
    expected = {f"i{number}" for number in range(len(items)) if may_be_shown(number, items, acts, filters)}
    for explored in (None, seed):
        found = shown(live, filters, after(*acts), n, explored)
        assert len(found) == len(set(found)) == min(n, len(expected))
        assert set(found) <= expected


def test_a_source_is_asked_for_more_where_a_filter_takes_most_of_it_out() -> None:
    live = live_with(item(number, categories=["x"] if number % 5 == 0 else []) for number in range(100))
    everything, few = Filters(), Filters(include_categories=("x",))
    asked = [may_show(live, NOW, [ItemId("i0")], (), filters).to_ask_for(10) for filters in (everything, few)]
    assert asked == [10 + 1, (10 + 1) * 5]


def test_no_request_has_the_whole_catalogue_ranked_and_none_is_starved() -> None:
    live = live_with(item(number) for number in range(4_000))
    surface = in_force(BUILT_IN_RULES, {})["probe"]
    before = [ItemId(f"i{number}") for number in range(500)]  # what the longest cursor names
    excluded = [ItemId(f"i{number}") for number in range(500, 3_990)]
    for exclude, expected in (((), 100), (excluded, 10)):
        ask = Ask(n=100, surface=surface, as_of=NOW, seed=None, exclude=exclude, shown=before)
        slate = choose(live, ask, NOBODY, Stopwatch(lambda: 0.0))
        found = [one.item_id for one in slate.items]
        assert len(set(found)) == len(found) == expected
        assert not {*before, *exclude} & set(found)
        assert 0 < sum(slate.candidates.values()) <= MOST_FILLED
