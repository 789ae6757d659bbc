"""Guests, who need no store, and many users at once."""

import json
from typing import Any

import pytest
from recommender_in_process import InProcess, in_process

from services.settings_serving import ServingSettings


def slate(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["slate"]]


def test_a_guest_is_answered_without_the_store(recommender: InProcess) -> None:
    reads = recommender.histories.reads
    events = [{"item_id": f"i{number}"} for number in (0, 3, 6)]
    answer = recommender.post("/v1/session/recommend", events=events, n=10, surface="probe")
    same = recommender.post("/v1/recommend", events=events, n=10, surface="probe")
    assert slate(answer) == slate(same)
    assert {"i0", "i3", "i6"}.isdisjoint(slate(answer))
    new = recommender.post("/v1/session/recommend", n=5)
    assert new["fallbacks"] == ["no_history"]
    assert new["session_id"]
    assert len(new["slate"]) == 5
    assert recommender.histories.reads == reads
    assert set(recommender.refused("/v1/session/recommend", user_id="u3")) == {"user_id"}


def test_an_empty_slate_is_counted(recommender: InProcess) -> None:
    def empty() -> float:
        return recommender.registry.get_sample_value("flywheel_empty_slates_total", {"surface": "home"}) or 0.0

    before = empty()
    assert slate(recommender.post("/v1/recommend", user_id="u1", n=5)) != []
    assert empty() == before
    assert slate(recommender.post("/v1/recommend", user_id="u1", n=5, categories=["none of them"])) == []
    assert empty() == before + 1


def test_a_batch_answers_each_as_if_alone_and_what_is_wrong_fails_alone(recommender: InProcess) -> None:
    recommender.log.impressions.clear()
    requests: list[Any] = [{"user_id": f"u{number}", "n": 5, "surface": "probe"} for number in range(20)]
    alone = [slate(recommender.post("/v1/recommend", **request)) for request in requests]
    recommender.log.impressions.clear()
    wrong = [{"user_id": "u1", "n": 0}, {}, {"user_id": "u1", "surface": "roof"}, 7, {"user_id": "u1", "cursor": "x"}]
    answer = recommender.call("POST", "/v1/recommend/batch", requests=[*requests, *wrong])
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [slate(result["answer"]) for result in results[:20]] == alone
    ids = [result["answer"]["request_id"] for result in results[:20]]
    assert sorted(ids) == sorted(one.event_id for one in recommender.log.impressions)
    assert all(result["errors"] == [] for result in results[:20])
    named = [result["errors"][0]["field"] for result in results[20:]]
    assert named == [
        "requests[20].n",
        "requests[21].user_id",
        "requests[22].surface",
        "requests[23]",
        "requests[24].cursor",
    ]
    assert all(result["answer"] is None for result in results[20:])
    assert recommender.call("POST", "/v1/recommend/batch", requests=requests).status_code == 200
    assert set(recommender.refused("/v1/recommend/batch", requests=[{}, 7])) == {"requests[0].user_id", "requests[1]"}
    assert set(recommender.refused("/v1/recommend/batch", requests=[{"user_id": "u1"}] * 101)) == {"requests"}


def test_the_access_log_names_the_requests_that_clicks_will_carry(
    world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with in_process(world, None, ServingSettings(access_log="all")) as one:
        slates = [
            one.post("/v1/recommend", user_id="u1", n=2),
            one.post("/v1/session/recommend", n=2),
            one.post("/v1/rank", user_id="u1", items=["i1"], log=True),
            one.post("/v1/rank", user_id="u1", items=["i1"]),
        ]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert [line.get("request_id") for line in lines] == [slate["request_id"] for slate in slates]
    assert slates[-1]["request_id"] is None
