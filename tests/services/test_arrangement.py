"""From ranked candidates to a slate by a surface's rules: boosts, pins, diversity, caps, and what is logged of them."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.scorer import Scorer
from services.recommend.boosts import boosted
from services.recommend.diversity import diversified
from services.recommend.live import Live
from services.recommend.pipeline import CAPS_EXCEEDED, Ask, Slate, Stopwatch, choose
from services.recommend.state import NOBODY, State
from services.recommend.surfaces import (
    BUILT_IN,
    BUILT_IN_RULES,
    MOST_PLACES,
    Boost,
    Caps,
    Diversity,
    Exploration,
    Filters,
    Pin,
    Predicate,
    Quota,
    Rules,
    in_force,
)
from streaming.events import ItemUpserted, Kind
from streaming.ids import EventId, ItemId

NOW = 1_790_000_000_000
COUNT = 300


def item(number: int) -> ItemUpserted:
    return ItemUpserted(
        event_id=f"put-{number}",
        happened_at=NOW,
        received_at=NOW,
        producer="test",
        item_id=f"i{number}",
        categories=["abc"[number % 3]],
        attributes={"brand": f"b{number % 7}", "price": float(number)},
        hidden=number % 10 == 9,
    )


def usage_of(number: int) -> int:
    return number * 37 % COUNT


@pytest.fixture(scope="module")
def live() -> Live:
    """Items that are each used another number of times, so that the ranked order is known; there is no model."""
    live = Live.build(None, (item(number) for number in range(COUNT)), PopularityWindow())
    rows = np.repeat(np.arange(COUNT), [usage_of(number) for number in range(COUNT)])
    live.popularity.observe(rows, np.full(len(rows), NOW - 1_000))
    return live


BEST = [f"i{number}" for number in sorted(range(COUNT), key=usage_of, reverse=True) if number % 10 != 9]


def slate(live: Live, rules: Rules, n: int = 10, seed: int | None = None, **fields: Any) -> Slate:
    surface = in_force(BUILT_IN_RULES | {"home": rules}, {})["home"]
    state = fields.pop("state", NOBODY)
    return choose(live, Ask(n=n, surface=surface, as_of=NOW, seed=seed, **fields), state, Stopwatch(lambda: 0.0))


def ids(found: Slate) -> list[str]:
    return [one.item_id for one in found.items]


def test_without_rules_fifty_seeds_give_the_slates_that_they_always_gave(live: Live) -> None:
    """The digest was taken before surfaces had any rules but quotas and exploration."""
    events = tuple(
        HistoryEvent(NOW - 5_000 + number, EventId(f"e{number}"), ItemId(f"i{number * 3}"), Kind.VIEW)
        for number in range(30)
    )
    state = State(History(events), frozenset(event.item_id for event in events), {})
    digest = hashlib.sha256()
    for seed in range(50):
        categories = ("a", "b") if seed % 2 else ()
        ask = Ask(n=12, surface=BUILT_IN["home"], as_of=NOW, seed=seed, categories=categories, exclude=[ItemId("i73")])
        for one in choose(live, ask, state, Stopwatch(lambda: 0.0)).items:
            line = f"{one.item_id} {one.position} {one.score} {one.propensity:.9f} {one.source}\n"
            digest.update(line.encode())
            assert one.rules == []
    assert digest.hexdigest() == "19832ec3776155d226bad02495e409000bb30e084bada561fdb062b50b3c738c"


def test_a_boost_moves_items_up_by_its_places_and_is_logged_with_them(live: Live) -> None:
    assert ids(slate(live, Rules())) == BEST[:10]
    target = BEST[8]
    price = float(target[1:])
    sale = Boost(name="sale", places=5, where=Predicate(attribute="price", at_least=price, at_most=price))
    found = slate(live, Rules(boosts=(sale,)))
    # Its own place, 8, less 5 makes 3, which BEST[3] has already.
    assert ids(found) == [*BEST[:4], target, *BEST[4:8], BEST[9]]
    assert {one.item_id: one.rules for one in found.items if one.rules} == {target: ["boost:sale"]}


def test_boosts_of_one_item_add_up_to_a_bound_either_way(live: Live) -> None:
    ranked = np.arange(250)
    up = tuple(Boost(name=f"up{number}", places=MOST_PLACES, category="a") for number in range(3))
    for boosts, places in ((up, MOST_PLACES), (up[:1], MOST_PLACES)):
        expected = sorted(range(250), key=lambda row: (row - places * (row % 3 == 0), row))
        assert boosted(live.columns, ranked, boosts).rows.tolist() == expected
    down = boosted(live.columns, ranked, (Boost(name="down", places=-7, category="a"),))
    assert down.rows.tolist() == sorted(range(250), key=lambda row: (row + 7 * (row % 3 == 0), row))
    assert down.names(0) == ["down"]
    assert down.names(1) == []


def test_pins_stand_where_they_are_put_only_if_they_may_be_shown_and_are_logged(live: Live) -> None:
    worst = BEST[-1]
    pins = (
        Pin(item_id=worst, position=2),
        Pin(item_id="i9", position=0),  # hidden
        Pin(item_id="unknown", position=1),
        Pin(item_id=BEST[0], position=30),  # beyond the slate
    )
    for seed in (None, 1, 2):
        found = slate(live, Rules(pins=pins, exploration=Exploration(temperature=0.25)), seed=seed)
        assert found.items[2].item_id == worst
        assert (found.items[2].rules, found.items[2].fixed, found.items[2].propensity) == (["pin"], True, 1.0)
        assert len(set(ids(found))) == 10
        assert "i9" not in ids(found)
        assert sum("pin" in one.rules for one in found.items) == 1
    assert ids(slate(live, Rules(pins=pins))) == [*BEST[:2], worst, *BEST[2:9]]
    assert worst not in ids(slate(live, Rules(pins=pins), exclude=[ItemId(worst)]))
    cheap = Filters(attributes=(Predicate(attribute="price", at_most=float(worst[1:]) - 1),))
    assert worst not in ids(slate(live, Rules(pins=pins, filters=cheap)))


def test_a_pin_that_no_source_named_says_so(live: Live) -> None:
    rules = Rules(sources=(Quota("trending", 50),), pins=(Pin(item_id=BEST[-1], position=0),))
    assert [one.source for one in slate(live, rules, n=3).items] == ["pin", "trending", "trending"]


@pytest.mark.parametrize("seed", [None, *range(20)])
def test_caps_hold_by_category_and_by_value_of_an_attribute(live: Live, seed: int | None) -> None:
    rules = Rules(caps=Caps(category=4, attributes={"brand": 2}), exploration=Exploration(temperature=0.5))
    found = slate(live, rules, n=12, seed=seed)
    numbers = [int(one[1:]) for one in ids(found)]
    assert len(numbers) == 12
    assert max(np.bincount([number % 3 for number in numbers])) <= 4
    assert max(np.bincount([number % 7 for number in numbers])) <= 2
    assert found.fallbacks == slate(live, Rules()).fallbacks


def test_a_cap_that_would_leave_slots_empty_gives_way(live: Live) -> None:
    found = slate(live, Rules(caps=Caps(category=2)), n=10)
    assert len(found.items) == 10
    assert CAPS_EXCEEDED in found.fallbacks


def test_caps_hold_while_items_that_no_source_named_are_within_them() -> None:
    items = [msgspec.structs.replace(item(10 * number), categories=["drama"]) for number in range(30)]
    items += [msgspec.structs.replace(item(10 * number), categories=[f"c{number}"]) for number in range(30, 60)]
    live = Live.build(None, items, PopularityWindow())
    live.popularity.observe(np.arange(30), np.full(30, NOW - 1_000))
    found = slate(live, Rules(sources=(Quota("popular", 30),), caps=Caps(category=4)), n=10)
    numbers = [int(one[1:]) // 10 for one in ids(found)]
    assert sum(number < 30 for number in numbers) == 4
    assert len(numbers) == 10
    assert CAPS_EXCEEDED not in found.fallbacks


def greedy(vectors: np.ndarray, relevance: float) -> list[int]:
    """Maximal marginal relevance as the paper words it, one similarity at a time."""
    count = len(vectors)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen: list[int] = []
    while len(chosen) < count:
        left = [place for place in range(count) if place not in chosen]
        marginal = {
            place: relevance * (1 - place / count)
            - (1 - relevance) * max((float(unit[place] @ unit[other]) for other in chosen), default=-1.0)
            for place in left
        }
        chosen.append(max(left, key=lambda place: (round(marginal[place], 6), -place)))
    return chosen


@given(
    count=st.integers(1, 12),
    rest=st.integers(0, 5),
    relevance=st.sampled_from((0.0, 0.3, 0.7, 1.0)),
    seed=st.integers(0),
)
def test_diversity_is_maximal_marginal_relevance(count: int, rest: int, relevance: float, seed: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    ranked = np.arange(100, 100 + count + rest)
    order = diversified(ranked, vectors, Diversity(relevance=relevance, pool=count)).tolist()
    assert order[count:] == ranked[count:].tolist()
    assert order[:count] == [100 + place for place in greedy(vectors, relevance)]


def test_diversity_spreads_the_served_slate_and_full_relevance_changes_nothing(
    artifact: tuple[Path, str], world: Any
) -> None:
    live = Live.build(Scorer.load(artifact[0]), world.items, PopularityWindow())
    own = [event for event in world.interactions if event.user_id == "u0"]
    events = tuple(HistoryEvent(one.happened_at, EventId(one.event_id), ItemId(one.item_id), one.kind) for one in own)
    state = State(History(events), frozenset(ItemId(event.item_id) for event in own), {})

    def shown(diversity: Diversity | None) -> list[str]:
        surface = in_force({"home": Rules(diversity=diversity)}, {})["home"]
        ask = Ask(n=6, surface=surface, as_of=world.now, seed=None)
        return ids(choose(live, ask, state, Stopwatch(lambda: 0.0)))

    def alikeness(item_ids: list[str]) -> float:
        assert live.scorer is not None
        vectors = live.scorer.item_vectors(live.rows_of(map(ItemId, item_ids)))
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return float((unit @ unit.T)[np.triu_indices(len(unit), 1)].mean())

    assert shown(Diversity(relevance=1.0)) == shown(None)
    assert alikeness(shown(Diversity(relevance=0.2))) < alikeness(shown(None))


def test_one_seed_gives_one_slate_whatever_the_rules(live: Live) -> None:
    rules = Rules(
        boosts=(Boost(name="a", places=20, category="a"),),
        pins=(Pin(item_id=BEST[50], position=1),),
        caps=Caps(category=5),
        exploration=Exploration(temperature=0.5, uniform_share=0.1),
    )
    slates = [slate(live, rules, seed=seed) for seed in range(30)]
    assert slates == [slate(live, rules, seed=seed) for seed in range(30)]
    assert len({tuple(ids(one)) for one in slates}) > 20
    assert {one.policy for one in slates} <= {"explored", "uniform"}
    assert slate(live, rules).policy == "ranked"
