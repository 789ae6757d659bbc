"""What everybody uses, and what is in force: surfaces and the model."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from recommender_in_process import InProcess, in_process

from models.scorer import Scorer
from services.recommend.surfaces import BUILT_IN

DAY_MS = 86_400_000


def order(answer: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["items"]]


@pytest.mark.parametrize(("path", "days"), [("/v1/popular", 30), ("/v1/trending", 7)])
def test_popular_items_are_counted_over_their_window(recommender: InProcess, world: Any, path: str, days: int) -> None:
    answer = recommender.post(path, n=60)
    # A window ends with the day of asking and begins at the day boundary nearest to `days` before.
    begin = round(world.now / DAY_MS) - days
    uses = Counter(event.item_id for event in world.interactions if event.happened_at // DAY_MS >= begin)
    assert {item["item_id"]: item["uses"] for item in answer["items"]} == uses
    counts = [item["uses"] for item in answer["items"]]
    assert counts == sorted(counts, reverse=True)
    assert answer["days"] == days
    first = answer["items"][0]["item_id"]
    dramas = order(recommender.post(path, n=60, categories=["drama"], exclude=[first]))
    assert set(dramas) == {item for item in uses if int(item[1:]) % 3 == 0} - {first}
    assert len(recommender.post(path, n=3)["items"]) == 3


def test_the_surfaces_are_listed_with_their_rules(recommender: InProcess) -> None:
    answer = recommender.call("GET", "/v1/surfaces").json()
    assert answer["version"] == BUILT_IN["home"].version
    listed = {one["name"]: one["rules"] for one in answer["surfaces"]}
    assert set(listed) == set(BUILT_IN)
    assert listed["probe"]["exploration"]["temperature"] == 0
    assert {"source": "sequence", "limit": 200} in listed["home"]["sources"]


def test_the_model_that_answers_is_told_and_the_one_before(world: Any, artifact: tuple[Path, str]) -> None:
    with in_process(world, None) as recommender:
        assert recommender.call("GET", "/v1/models").json() == {"loaded": None, "previous": None}
        scorer = Scorer.load(artifact[0])
        recommender.engine.swap(scorer)
        told = recommender.call("GET", "/v1/models").json()
        assert told["loaded"] == {
            "model_version": artifact[1],
            "trained_until": scorer.trained_until,
            "conversions": list(scorer.conversions),
        }
        assert told["previous"] is None
        recommender.engine.swap(Scorer.load(artifact[0]))
        assert recommender.call("GET", "/v1/models").json()["previous"] == artifact[1]
