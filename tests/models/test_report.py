"""The report beside the baselines, on a slice whose figures are known by hand."""

import importlib.util

import numpy as np
import pytest
from numpy.typing import NDArray

from features.history import HistoryEvent
from models import slice_baselines
from models.baselines import Popularity, RecentPopularity
from models.bootstrap import bootstrap_mean
from models.content import ItemContent
from models.metrics import paired_bootstrap
from models.report import Report, report_on
from models.slice_baselines import BaselineRanker, fitted, left_out
from models.slices import Past, Slice
from models.time_split import TimeSplit, ask
from streaming.events import Kind
from streaming.ids import EventId, ItemId, UserId

SEED, DAY = 12, 86_400_000
START = 400 * DAY
NAMES = [ItemId(f"i{number:02}") for number in range(30)]
ALL = {"popularity", "popularity_30d", "popularity_decayed_14d", "markov", "markov_x_sqrt_popularity_30d"} | {
    "item_knn",
    "ease",
    "ials",
}


class Random:
    """Scores that differ by user."""

    def __init__(self, items: int) -> None:
        self._items = items

    def scores(self, user_id: UserId) -> NDArray[np.float64]:
        return np.random.default_rng([SEED, *user_id.encode()]).random(self._items)


def walk(user: int, first: int, events: int) -> Past:
    """A user who walked through the items in order and took two more steps later."""
    names = [NAMES[(first + step) % len(NAMES)] for step in range(events + 2)]
    done = [
        HistoryEvent(START - (events - at) * DAY, EventId(f"{user} {at}"), name, Kind.CLICK)
        for at, name in enumerate(names[:events])
    ]
    return Past(done, set(names[events:]))


@pytest.fixture(scope="module")
def part() -> Slice:
    print("seed", SEED)  # noqa: T201
    rng = np.random.default_rng(SEED)
    users = {UserId(f"u{user}"): walk(user, int(rng.integers(0, 30)), int(rng.integers(0, 12))) for user in range(60)}
    new = ItemId("brand new")
    users[UserId("u0")].later.add(new)
    return Slice(START, users, {}, {new: ItemContent(new)})


@pytest.fixture(scope="module")
def split(part: Slice) -> TimeSplit:
    return TimeSplit.of(part)


@pytest.fixture(scope="module")
def report(part: Slice, split: TimeSplit) -> Report:
    model = ask("model", Random(len(split.catalogue)), split)
    others = [ask(name, ranker, split) for name, ranker in fitted(part, split)]
    return report_on(part, split, [model, *others], left_out(part), SEED)


def test_every_report_shows_the_baselines_beside_the_model(report: Report) -> None:
    assert report.rows[0].name == report.model_version == "model"
    assert {row.name for row in report.rows[1:]} == ALL
    assert report.left_out == {}
    metrics = {"ndcg10", "hr10", "recall50", "mrr", "new_recall50", "popularity10"}
    assert all(set(row.means) == metrics for row in report.rows)
    assert (report.users, report.catalogue) == (60, 31)


def test_the_means_and_leads_are_those_of_the_answers_user_by_user(
    part: Slice, split: TimeSplit, report: Report
) -> None:
    model = ask("model", Random(len(split.catalogue)), split).columns["ndcg10"]
    popular = ask("popularity", BaselineRanker(Popularity(part.training), split, START), split).columns["ndcg10"]
    row = next(row for row in report.rows if row.name == "popularity")
    alone, mean = bootstrap_mean(list(popular.values()), SEED), row.means["ndcg10"]
    assert (mean.mean, mean.low, mean.high) == pytest.approx((alone.mean, alone.low, alone.high))
    lead = paired_bootstrap([model[user] for user in popular], list(popular.values()), SEED, draws=2_000)
    found = row.lead["ndcg10"]
    assert (found.difference, found.low, found.high) == pytest.approx((lead.difference, lead.low, lead.high))
    assert report.rows[0].lead == {}


def test_walks_are_predicted_by_the_chain_and_not_by_popularity(report: Report) -> None:
    rows = {row.name: row for row in report.rows}
    assert rows["markov"].means["ndcg10"].mean > rows["popularity"].means["ndcg10"].mean + 0.1
    assert rows["markov"].lead["ndcg10"].high < 0  # the random model is behind


def test_a_baseline_scores_as_when_it_is_asked_alone(part: Slice, split: TimeSplit) -> None:
    alone = RecentPopularity(part.training, 30)
    scores = BaselineRanker(alone, split, START).scores(UserId("u3"))
    counts = dict(zip(alone.items, alone.scores(UserId("u3"), START), strict=True))
    expected = [counts.get(item_id, -np.inf) for item_id in split.catalogue]
    assert scores.tolist() == expected
    assert split.catalogue[-1] == "brand new"
    assert scores[-1] == -np.inf


def test_parts_split_the_targets_by_popularity_and_the_users_by_activity(split: TimeSplit, report: Report) -> None:
    parts = {part.name.split(",")[0]: part for part in report.parts}
    by_activity = [part for name, part in parts.items() if name.startswith("users")]
    assert sum(part.users for part in by_activity) == report.users
    without = sum(question.history == 0 for question in split.asked)
    assert parts["users without history"].users == without
    assert parts["users without history"].rankers["item_knn"]["hr10"].mean < 1.0
    assert parts["tail items"].rankers.keys() == parts["head items"].rankers.keys()


def test_head_and_tail_are_each_half_of_the_events() -> None:
    """Items 0, 1 and 2 have 4, 3 and 1 of 8 events: item 0 alone is half, so it is the head."""
    names = [ItemId(name) for name in "0" * 4 + "1" * 3 + "2"]
    done = {
        UserId(f"v{number}"): Past([HistoryEvent(START - 1, EventId(str(number)), name, Kind.CLICK)])
        for number, name in enumerate(names)
    }
    part = Slice(START, done, {}).followed_by({UserId("a"): [ItemId("0")], UserId("b"): [ItemId("1"), ItemId("2")]})
    split = TimeSplit.of(part)
    found = report_on(part, split, [ask("model", Random(3), split)], {}, SEED)
    sizes = {one.name: one.users for one in found.parts}
    assert (sizes["head items, half of the events"], sizes["tail items"]) == (1, 1)


def test_what_is_left_out_is_said_with_the_reason(part: Slice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slice_baselines, "DENSE_ITEMS", 5)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert left_out(part)["ials"] == "the package implicit is not installed: uv sync --extra baselines"
    assert "is for up to 5 items, and these are 30" in left_out(part)["ease"]
    shown = {name for name, _ in fitted(part, TimeSplit.of(part))}
    assert shown | left_out(part).keys() == ALL
    assert not shown & left_out(part).keys()


def test_without_anything_before_the_slice_there_are_no_baselines() -> None:
    part = Slice(START, {}, {}, {NAMES[0]: ItemContent(NAMES[0])}).followed_by({UserId("a"): [NAMES[0]]})
    assert list(fitted(part, TimeSplit.of(part))) == []
    assert "nothing happened before" in left_out(part)["all baselines"]
