"""A list of the caller in order: every item once, the same each time, and logged only when asked."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recommender_in_process import InProcess


def order(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


def slate(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["slate"]]


def test_a_list_is_ordered_as_a_slate_of_the_same_items_is(recommender: InProcess) -> None:
    shown = recommender.post("/v1/recommend", user_id="u3", n=30, surface="probe")
    ranked = recommender.post("/v1/rank", user_id="u3", items=sorted(slate(shown)), surface="probe")
    assert order(ranked) == slate(shown)
    # The last bits of a score depend on how many items are scored with it, on some processors.
    assert [item["score"] for item in ranked["items"]] == pytest.approx(
        [item["score"] for item in shown["slate"]], rel=1e-6
    )
    assert ranked["model_version"] == shown["model_version"]


@settings(max_examples=25)
@given(items=st.lists(st.sampled_from([f"i{number}" for number in range(80)]), min_size=1, max_size=60))
def test_every_item_is_answered_once_best_first_and_the_unknown_last(recommender: InProcess, items: list[str]) -> None:
    ranked = recommender.post("/v1/rank", user_id="u3", items=items)["items"]
    assert Counter(item["item_id"] for item in ranked) == Counter(set(items))
    assert [item["position"] for item in ranked] == list(range(len(ranked)))
    assert [item["known"] for item in ranked] == sorted((item["known"] for item in ranked), reverse=True)
    assert all(item["known"] == (int(item["item_id"][1:]) < 60) for item in ranked)
    scores = [item["score"] for item in ranked if item["known"]]
    assert scores == sorted(scores, reverse=True)
    assert {item["score"] for item in ranked if not item["known"]} <= {None}


def test_an_order_depends_on_the_user_and_on_the_session(recommender: InProcess, world: Any) -> None:
    items = [item.item_id for item in world.items]
    orders = [
        order(recommender.post("/v1/rank", items=items, **who))
        for who in ({"user_id": "u3"}, {"user_id": "u4"}, {"events": [{"item_id": "i2"}, {"item_id": "i5"}]})
    ]
    assert len(set(map(tuple, orders))) == 3
    assert orders[0] == order(recommender.post("/v1/rank", items=items, user_id="u3"))  # nothing is explored


def test_an_order_is_logged_only_when_asked(recommender: InProcess) -> None:
    recommender.log.impressions.clear()
    quiet = recommender.post("/v1/rank", user_id="u3", items=["i1", "i2"])
    assert quiet["request_id"] is None
    assert recommender.log.impressions == []
    loud = recommender.post("/v1/rank", events=[{"item_id": "i4"}], items=["i1", "never heard of", "i2"], log=True)
    [logged] = recommender.log.impressions
    assert (logged.event_id, logged.session_id) == (loud["request_id"], loud["session_id"])
    assert [item.item_id for item in logged.slate] == order(loud)[:2]
    assert {(item.propensity, item.source) for item in logged.slate} == {(1.0, "given")}


def test_weights_of_a_task_that_the_model_lacks_are_a_fallback_and_unknown_ones_an_error(
    recommender: InProcess,
) -> None:
    [missing] = {"like", "purchase"} - set(recommender.call("GET", "/v1/models").json()["loaded"]["conversions"])
    answer = recommender.post("/v1/rank", user_id="u3", items=["i1"], weights={missing: 0.5})
    assert answer["fallbacks"] == ["no_task"]
    assert recommender.refused("/v1/rank", user_id="u3", items=["i1"], weights={"stare": 1.0})
    assert set(recommender.refused("/v1/rank", user_id="u3", items=["i1"], weights={"like": 1e9})) == {"weights[...]"}


def test_weights_change_the_order_of_a_list(recommender: InProcess, world: Any) -> None:
    items = [item.item_id for item in world.items]
    alone = order(recommender.post("/v1/rank", user_id="u3", items=items))
    liked = order(recommender.post("/v1/rank", user_id="u3", items=items, weights={"like": 5.0}))
    assert liked != alone


def test_without_a_model_a_list_is_ordered_by_use(plain: InProcess, world: Any) -> None:
    answer = plain.post("/v1/rank", user_id="u3", items=[item.item_id for item in world.items])
    uses = Counter(event.item_id for event in world.interactions)
    assert [item["score"] for item in answer["items"]] == sorted(uses.values(), reverse=True)
    assert answer["fallbacks"] == ["no_model"]
