"""Ranking within a time budget: what a slow or failing ranker leaves is the order of retrieval, and it comes back."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recommender_in_process import InProcess, in_process

from models.scorer import Query
from models.served import RankerFailed
from services.recommend.candidates import Candidates, Need, gather
from services.recommend.filters import may_show
from services.recommend.live import Live
from services.recommend.ranker import Rank, Ranker, score_rows
from services.recommend.surfaces import BUILT_IN, PROBE

BUDGET_S = 0.5
ASK = {"user_id": "u1", "n": 20, "surface": PROBE}  # nothing is explored there, so the order is all there is


@dataclass
class Ranking:
    """The real ranker, which takes `seconds` of a clock that only it moves, or fails; it counts how often it was asked.

    A wait for its turn is time that passes before the ranker's turn.
    """

    seconds: float = 0.001
    fails: bool = False
    asked: int = 0
    time: float = 0.0
    waits: list[float] = field(default_factory=list)

    def clock(self) -> float:
        return self.time

    def score(self, live: Live, query: Query, rows: Any, weights: Mapping[str, float]) -> Any:
        self.asked += 1
        self.time += self.seconds
        if self.fails:
            raise RankerFailed("the ranker fails: it was told to")
        return score_rows(live, query, rows, weights)


class Queued(Ranker):
    """A ranker before whose turn requests wait as they are told."""

    def __init__(self, ranking: Ranking) -> None:
        super().__init__(BUDGET_S, ranking.clock, ranking.score)
        self._ranking = ranking

    def from_now(self) -> Rank:
        rank = super().from_now()
        self._ranking.time += self._ranking.waits.pop() if self._ranking.waits else 0.0
        return rank


@pytest.fixture
def slow(world: Any, artifact: tuple[Path, str]) -> Iterator[tuple[InProcess, Ranking]]:
    ranking = Ranking()
    with in_process(world, artifact, ranker=Queued(ranking)) as one:
        yield one, ranking


def retrieved(one: InProcess) -> list[str]:
    """The items as the sources name them, first source first, worked out from what each names alone."""
    surface = BUILT_IN[PROBE]

    def named(live: Live) -> list[str]:
        query = Query(one.histories.known["u1"], {}, one.now)
        allowed = may_show(live, one.now, query.history.items, (), surface.filters)
        need, found = Need(query, allowed, ()), dict[int, None]()
        for quota in surface.sources:
            alone: Candidates = gather(live, need, (quota,), 0)
            best_first = alone.rows[np.argsort(alone.places)]
            found |= dict.fromkeys(best_first.tolist())
        return [live.rows.item_id(row) for row in found]

    return asyncio.run(one.engine.compute(named))


def items(answer: Mapping[str, Any]) -> list[str]:
    return [item["item_id"] for item in answer["slate"]]


def test_while_the_ranker_is_slow_slates_are_in_the_order_of_retrieval_and_say_so_and_it_comes_back(
    slow: tuple[InProcess, Ranking],
) -> None:
    one, ranking = slow
    ranked = one.post("/v1/recommend", **ASK)
    assert ranked["fallbacks"] == []
    expected = retrieved(one)[:20]
    assert items(ranked) != expected

    ranking.seconds = 3.0
    while "ranker_slow" not in (answer := one.post("/v1/recommend", **ASK))["fallbacks"]:
        assert ranking.asked < 10
    asked = ranking.asked
    for _ in range(50):
        assert "ranker_slow" in (answer := one.post("/v1/recommend", **ASK))["fallbacks"]
        assert items(answer) == expected
    assert ranking.asked == asked
    assert one.log.impressions[-1].fallbacks == ["ranker_slow"]
    assert [item.item_id for item in one.log.impressions[-1].slate] == expected

    tries = 0
    for _ in range(100):  # the longer it takes the more rarely it is tried: at most a tenth of the time goes there
        ranking.time += 1.0
        before = ranking.asked
        one.post("/v1/recommend", **ASK)
        tries += ranking.asked - before
    assert 1 <= tries <= 4

    ranking.seconds = 0.001
    ranking.time += 40.0
    assert one.post("/v1/recommend", **ASK)["fallbacks"] == []  # one try is enough
    again = [one.post("/v1/recommend", **ASK) for _ in range(5)]
    assert [answer["fallbacks"] for answer in again] == [[]] * 5
    assert items(again[-1]) == items(ranked)


def test_one_slow_moment_changes_nothing(slow: tuple[InProcess, Ranking]) -> None:
    one, ranking = slow
    for _ in range(5):
        one.post("/v1/recommend", **ASK)
    ranking.seconds = 1.0
    one.post("/v1/recommend", **ASK)
    ranking.seconds = 0.001
    assert one.post("/v1/recommend", **ASK)["fallbacks"] == []


def test_a_request_that_waited_too_long_for_its_turn_is_not_ranked_and_the_next_one_is(
    slow: tuple[InProcess, Ranking],
) -> None:
    one, ranking = slow
    one.post("/v1/recommend", **ASK)
    ranking.waits = [BUDGET_S + 0.1]
    late = one.post("/v1/recommend", **ASK)
    assert late["fallbacks"] == ["ranker_slow"]
    assert items(late) == retrieved(one)[:20]
    assert one.post("/v1/recommend", **ASK)["fallbacks"] == []


def test_a_failing_ranker_leaves_the_order_of_retrieval_and_is_logged_once_a_minute(
    slow: tuple[InProcess, Ranking], caplog: pytest.LogCaptureFixture
) -> None:
    one, ranking = slow
    ranking.fails = True
    with caplog.at_level(logging.ERROR, "services.recommend.ranker"):
        for _ in range(10):
            answer = one.post("/v1/recommend", **ASK)
            assert answer["fallbacks"] == ["ranker_failed"]
            assert items(answer) == retrieved(one)[:20]
        assert len(caplog.records) == 1
        ranking.time += 61.0
        one.post("/v1/recommend", **ASK)
        assert len(caplog.records) == 2
    given = ["i3", "i2", "i1"]
    ordered = one.post("/v1/rank", user_id="u1", items=given)
    assert [item["item_id"] for item in ordered["items"]] == given
    assert ordered["fallbacks"] == ["ranker_failed"]
    ranking.fails = False
    assert one.post("/v1/recommend", **ASK)["fallbacks"] == []


def test_who_has_no_history_is_not_ranked_by_the_model_and_misses_nothing(slow: tuple[InProcess, Ranking]) -> None:
    one, ranking = slow
    before = one.post("/v1/recommend", user_id="nobody", n=20, surface=PROBE)
    ranking.waits = [BUDGET_S + 0.1]
    after = one.post("/v1/recommend", user_id="nobody", n=20, surface=PROBE)
    assert after["fallbacks"] == before["fallbacks"] == ["no_history"]
    assert items(after) == items(before)


def test_an_error_of_the_real_session_is_a_failed_ranker(
    slow: tuple[InProcess, Ranking], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, _ = slow
    served: Callable[[Live], Any] = lambda live: live.scorer._ranking  # type: ignore[union-attr]  # noqa: E731
    session = asyncio.run(one.engine.compute(served))._ranker

    class Narrowed:
        def run(self, outputs: Any, inputs: dict[str, Any]) -> Any:
            return session.run(outputs, inputs | {"dense": inputs["dense"][:, :, :1]})

    monkeypatch.setattr(asyncio.run(one.engine.compute(served)), "_ranker", Narrowed())
    assert one.post("/v1/recommend", **ASK)["fallbacks"] == ["ranker_failed"]
