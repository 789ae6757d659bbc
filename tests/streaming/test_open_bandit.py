import importlib.util
from collections import Counter
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from streaming.dataset import DataSetMissing
from streaming.events import Impression, Interaction, Kind
from streaming.open_bandit import BanditLog, Campaign, Policy, load_open_bandit

CLICKS = {
    (Policy.RANDOM, Campaign.ALL): 38,
    (Policy.RANDOM, Campaign.MEN): 46,
    (Policy.RANDOM, Campaign.WOMEN): 46,
    (Policy.BTS, Campaign.ALL): 42,
    (Policy.BTS, Campaign.MEN): 69,
    (Policy.BTS, Campaign.WOMEN): 46,
}
ITEMS = {Campaign.ALL: 80, Campaign.MEN: 34, Campaign.WOMEN: 46}


@pytest.fixture(scope="module", params=CLICKS, ids="-".join)
def log(request: pytest.FixtureRequest) -> BanditLog:
    return load_open_bandit(*request.param)


@pytest.fixture(scope="module")
def table(log: BanditLog) -> pd.DataFrame:
    """The log's own file, read by other code."""
    spec = importlib.util.find_spec("obp")
    assert spec
    assert spec.origin
    folder = Path(spec.origin).parent / "dataset" / "obd" / log.policy / log.campaign
    columns = ["timestamp", "item_id", "position", "click", "propensity_score"]
    file = folder / f"{log.campaign}.csv"
    return pd.read_csv(file, usecols=columns, dtype={"item_id": str}, float_precision="round_trip")


def test_a_log_has_its_published_size(log: BanditLog) -> None:
    assert len(log.impressions) == 10_000
    assert len(log.clicks) == CLICKS[log.policy, log.campaign]
    assert len(log.items) == ITEMS[log.campaign]
    assert {one.slate[0].item_id for one in log.impressions} == {item.item_id for item in log.items}


def test_items_positions_and_propensities_come_through_exactly(log: BanditLog, table: pd.DataFrame) -> None:
    shown = [one.slate[0] for one in log.impressions]
    assert all(len(one.slate) == 1 for one in log.impressions)
    assert [one.item_id for one in shown] == table["item_id"].tolist()
    assert [one.propensity for one in shown] == table["propensity_score"].tolist()
    assert [one.position + 1 for one in shown] == table["position"].tolist()
    assert set(Counter(one.position for one in shown)) == {0, 1, 2}


def test_times_come_through_to_the_millisecond_and_in_order(log: BanditLog, table: pd.DataFrame) -> None:
    times = [one.happened_at for one in log.impressions]
    assert times == sorted(times)
    micros = [round(datetime.fromisoformat(text).timestamp() * 1e6) for text in table["timestamp"]]
    assert times == [micro // 1000 for micro in micros]


def test_every_click_answers_the_impression_that_the_log_marks(log: BanditLog, table: pd.DataFrame) -> None:
    by_request = {one.request_id: one for one in log.impressions}
    assert len(by_request) == len(log.impressions)
    marked = [one.request_id for one, click in zip(log.impressions, table["click"], strict=True) if click]
    assert [click.request_id for click in log.clicks] == marked
    for click in log.clicks:
        impression = by_request[click.request_id]
        assert (click.item_id, click.position) == (impression.slate[0].item_id, impression.slate[0].position)
        assert (click.kind, click.session_id) == (Kind.CLICK, impression.session_id)


def test_the_random_policy_shows_every_item_with_one_probability() -> None:
    log = load_open_bandit(Policy.RANDOM, Campaign.MEN)
    assert {one.slate[0].propensity for one in log.impressions} == {1 / 34}


def test_the_events_survive_the_wire(log: BanditLog) -> None:
    for kind, events in ((Impression, log.impressions[:200]), (Interaction, log.clicks)):
        wire = msgspec.json.encode(events)
        assert msgspec.json.decode(wire, type=list[kind]) == list(events)


def test_a_log_says_that_it_is_too_small_to_rank_models_by(log: BanditLog) -> None:
    assert log.verdict == "too small to rank models by"


def test_a_log_with_a_thousand_clicks_does_not_say_so() -> None:
    log = load_open_bandit(Policy.BTS, Campaign.MEN)
    assert replace(log, clicks=list(log.clicks) * 15).verdict == "large enough to rank models by"


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(DataSetMissing, match="uv sync --group dev"):
        load_open_bandit(Policy.BTS, Campaign.MEN)
