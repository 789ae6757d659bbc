"""Explanations: what a record holds and what the same model says of it, or a sentence that says what is missing."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from recommender_in_process import InProcess, in_process

from features.slate_records import SlateRecord, decode_record, encode_record
from models.scorer import Query, Scorer
from services.recommend.explain import explain
from services.recommend.explain_bodies import ExplainAnswer


def explained(one: InProcess, request_id: str, **changes: Any) -> ExplainAnswer:
    [(impression, history)] = [slate for slate in one.log.slates if slate[0].event_id == request_id]
    stored = SlateRecord.of(msgspec.structs.replace(impression, **changes), history)
    record = decode_record(encode_record(stored))
    return asyncio.run(one.engine.compute(lambda live: explain(live, record)))


def test_every_item_is_told_as_it_was_answered(recommender: InProcess, world: Any) -> None:
    answer = recommender.post("/v1/recommend", user_id="u3", n=10, context={"page": "home", "mobile": True})
    why = explained(recommender, answer["request_id"])
    told = [{"item_id": i.item_id, "score": i.score, "source": i.source, "position": i.position} for i in why.items]
    assert told == answer["slate"]
    assert (why.user_id, why.surface, why.shown_at) == ("u3", "home", recommender.now)
    assert (why.model_version, why.surfaces_version) == (answer["model_version"], answer["surfaces_version"])
    assert why.history == world.history("u3")
    assert why.context == {"page": "home", "mobile": 1.0}
    assert why.user_features == {}
    assert why.notes == []


def test_the_drivers_are_those_that_the_answer_named_when_it_was_made(recommender: InProcess) -> None:
    answer = recommender.post("/v1/recommend", user_id="u4", n=20, why=True)
    items = {item.item_id: item for item in explained(recommender, answer["request_id"]).items}
    words = {"often chosen after": "chosen_before", "goes with": "most_alike"}
    seen = 0
    for shown in answer["slate"]:
        said, _, driver = shown["why"].rpartition(" ")
        if said in words:
            assert (driver, words[said]) in {(one.item_id, one.tie) for one in items[shown["item_id"]].drivers}
            seen += 1
    assert seen > 5


def test_the_features_are_what_the_ranker_reads(recommender: InProcess, world: Any, artifact: tuple[Path, str]) -> None:
    answer = recommender.post("/v1/recommend", user_id="u5", n=8)
    why = explained(recommender, answer["request_id"])
    history = world.history("u5")
    uses: dict[str, int] = {}
    for event in world.interactions:
        uses[event.item_id] = uses.get(event.item_id, 0) + 1
    names = Scorer.load(artifact[0]).spec.ranking.features
    for item in why.items:
        assert tuple(item.features) == names
        assert item.features["history_size"] == pytest.approx(np.log1p(len(history)), rel=1e-5)
        assert item.features["popularity_30d"] == pytest.approx(np.log(uses[item.item_id] + 0.5), rel=1e-5)
        assert item.features["user_known"] == 0  # the store of this recommender has no features


def test_the_task_scores_are_the_probabilities_of_the_same_model(recommender: InProcess) -> None:
    answer = recommender.post("/v1/recommend", user_id="u6", n=8)
    why = explained(recommender, answer["request_id"])
    [history] = [one for slate, one in recommender.log.slates if slate.event_id == answer["request_id"]]

    def expected(live: Any) -> dict[str, list[float]]:
        rows = live.rows_of([item["item_id"] for item in answer["slate"]])
        found = live.scorer.probabilities(Query(history, {}, recommender.now), rows, live.popularity)
        return {name: scores.tolist() for name, scores in found.items()}

    by_task = asyncio.run(recommender.engine.compute(expected))
    assert set(by_task) == {"like"}
    assert [item.task_scores["like"] for item in why.items] == pytest.approx(by_task["like"])
    assert all(0 < item.task_scores["like"] < 1 for item in why.items)


def test_another_model_explains_nothing_of_it_and_says_so(
    world: Any, artifact: tuple[Path, str], other_artifact: tuple[Path, str]
) -> None:
    with in_process(world, artifact) as one:
        answer = one.post("/v1/recommend", user_id="u3", n=5)
        one.engine.swap(Scorer.load(other_artifact[0]))
        why = explained(one, answer["request_id"])
    assert [item.item_id for item in why.items] == [item["item_id"] for item in answer["slate"]]
    assert all((item.drivers, item.task_scores, item.features) == ([], {}, {}) for item in why.items)
    [note] = why.notes
    assert artifact[1] in note
    assert other_artifact[1] in note


def test_without_a_model_or_a_history_the_sentence_says_what_ordered_the_slate(
    plain: InProcess, recommender: InProcess
) -> None:
    for one, user in ((plain, "u3"), (recommender, "nobody")):
        why = explained(one, one.post("/v1/recommend", user_id=user, n=5)["request_id"])
        [note] = why.notes
        assert "how used the items were" in note
        assert all(item.features == {} for item in why.items)


def test_an_item_that_the_model_does_not_know_is_named_and_the_others_are_explained(recommender: InProcess) -> None:
    answer = recommender.post("/v1/recommend", user_id="u3", n=3)
    [impression] = [slate for slate, _ in recommender.log.slates if slate.event_id == answer["request_id"]]
    gone = msgspec.structs.replace(impression.slate[0], item_id="vanished", rules=["pin", "boost:sale"])
    why = explained(recommender, answer["request_id"], slate=[gone, *impression.slate[1:]])
    assert why.items[0].rules == ["pin", "boost:sale"]
    assert [bool(item.features) for item in why.items] == [False, True, True]
    [note] = why.notes
    assert "'vanished'" in note
