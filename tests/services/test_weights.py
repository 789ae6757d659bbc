"""Weights of conversions, from the setting to the slate."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.scorer import Query, Scorer
from services.config import ConfigurationError, load_settings
from services.recommend.live import Live
from services.recommend.pipeline import NO_TASK, Ask, Slate, Stopwatch, choose
from services.recommend.state import State
from services.recommend.surfaces import BUILT_IN_RULES, PROBE, in_force
from streaming.ids import EventId, ItemId


@pytest.fixture
def live(artifact: tuple[Path, str], world: Any) -> Live:
    return Live.build(Scorer.load(artifact[0]), world.items, PopularityWindow())


@pytest.fixture
def state(world: Any) -> State:
    own = [event for event in world.interactions if event.user_id == "u0"]
    events = tuple(
        HistoryEvent(event.happened_at, EventId(event.event_id), ItemId(event.item_id), event.kind, event.value)
        for event in own
    )
    return State(History(events), frozenset(ItemId(event.item_id) for event in own), {})


def slate(live: Live, state: State, as_of: int, weights: Any) -> Slate:
    question = Ask(n=100, surface=in_force(BUILT_IN_RULES, weights)[PROBE], as_of=as_of, seed=None)
    return choose(live, question, state, Stopwatch(lambda: 0.0))


def test_a_heavy_weight_orders_a_slate_by_the_probability_of_a_like(live: Live, state: State, world: Any) -> None:
    assert live.scorer is not None
    assert live.scorer.conversions == ("like",)
    clicks, likes = (slate(live, state, world.now, weights) for weights in ({}, {"like": 1e6}))
    assert {item.item_id for item in clicks.items} == {item.item_id for item in likes.items}
    assert [item.item_id for item in clicks.items] != [item.item_id for item in likes.items]
    rows = np.array([live.scorer.row(ItemId(item.item_id)) for item in likes.items])
    query = Query(state.history, state.features, world.now)
    assert (np.diff(live.scorer.probabilities(query, rows, live.popularity)["like"]) <= 1e-6).all()
    assert NO_TASK not in (*clicks.fallbacks, *likes.fallbacks)


def test_a_weight_of_a_task_that_the_model_lacks_is_left_out_and_said(live: Live, state: State, world: Any) -> None:
    clicks, purchases = (slate(live, state, world.now, weights) for weights in ({}, {"purchase": 1.0}))
    assert purchases.items == clicks.items
    assert purchases.fallbacks == (NO_TASK,)


def test_weights_come_from_the_environment_and_name_known_tasks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLYWHEEL_HOME", str(tmp_path))
    monkeypatch.setenv("FLYWHEEL_SERVING__TASK_WEIGHTS", '{"like": 0.5}')
    assert load_settings().serving.task_weights == {"like": 0.5}
    for refused in ('{"lik": 0.5}', '{"like": NaN}', "0.5"):
        monkeypatch.setenv("FLYWHEEL_SERVING__TASK_WEIGHTS", refused)
        with pytest.raises(ConfigurationError, match="FLYWHEEL_SERVING__TASK_WEIGHTS"):
            load_settings()
