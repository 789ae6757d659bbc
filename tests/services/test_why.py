"""Reasons: an item names the item of the history that speaks for it, or else its source."""

from typing import Any

from recommender_in_process import InProcess


def test_every_item_says_why_when_asked_and_only_then(recommender: InProcess, world: Any) -> None:
    answer = recommender.post("/v1/recommend", user_id="u3", n=35, why=True)
    history = set(world.history("u3"))
    drivers = set()
    for item in answer["slate"]:
        words, _, driver = item["why"].rpartition(" ")
        if item["source"] in ("sequence", "co_visited"):
            assert words in ("often chosen after", "goes with")
            drivers.add(driver)
    assert drivers
    assert drivers <= history
    assert all("why" not in item for item in recommender.post("/v1/recommend", user_id="u3")["slate"])


def test_a_single_item_in_the_session_is_what_speaks_for_the_others(recommender: InProcess) -> None:
    answer = recommender.post("/v1/recommend", events=[{"item_id": "i4"}], n=5, surface="probe", why=True)
    assert {item["why"].rpartition(" ")[2] for item in answer["slate"] if item["source"] == "sequence"} == {"i4"}


def test_without_a_history_the_source_says_why(plain: InProcess) -> None:
    answer = plain.post("/v1/recommend", user_id="nobody", n=60, why=True, categories=["drama"], surface="probe")
    whys = {item["source"]: item["why"] for item in answer["slate"]}
    assert whys["trending"] == "popular this week"
    assert set(whys.values()) <= {"popular this week", "popular this month", "popular in drama", "from the catalogue"}
