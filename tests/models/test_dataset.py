"""Arrow tables to columns, on a handful of rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from features.sampling import CLICK_WINDOW_MS
from models.dataset import NotEnoughData, Tables, TrainingData, training_data
from models.log import KINDS
from streaming.events import PROBE_SURFACE

STAMP = pa.timestamp("us", "UTC")
UNTIL = 100_000


def table(times: tuple[str, ...], rows: list[dict[str, Any]], **extra: pa.DataType) -> pa.Table:
    columns = {name: [row.get(name) for row in rows] for name in (rows[0] if rows else extra)}
    return pa.table(
        {
            name: pa.array([value and value * 1_000 for value in values], STAMP)
            if name in times
            else pa.array(values, extra.get(name))
            for name, values in columns.items()
        }
    )


def act(number: int, user: str | None, item: str, at: int, **other: Any) -> dict[str, Any]:
    row = {"session_id": None, "surface": None, "kind": "rating", "value": 4.0} | other
    return {"event_id": f"e{number}", "happened_at": at, "user_id": user, "item_id": item, **row}


def example(group: str, user: str, item: str, at: int, sampling: str) -> dict[str, Any]:
    return {
        "group_id": group,
        "user_id": user,
        "item_id": item,
        "event_timestamp": at,
        "label": int(sampling == "positive"),
        "sampling": sampling,
        "position": None,
        "interactions_total": 2,
        "mean_value": 4.5,
        "attributes": '{"job": "nurse"}',
        "item_interactions_total": 3 if item != "9" else None,
        "item_mean_value": 2.5 if item != "9" else None,
    }


ACTS = [
    act(1, "u", "10", 3_000),
    act(0, "u", "9", 3_000, value=2.0),
    act(2, "u", "10", 1_000),
    act(3, None, "9", 2_000, session_id="s", kind="hide"),
    act(4, "v", "9", 90_000),
    act(5, "v", "77", 90_000, surface=PROBE_SURFACE),
    act(6, "v", "88", UNTIL),
]
EXAMPLES = [
    example("late", "v", "9", 90_500, "popular"),
    example("late", "v", "10", 90_500, "positive"),
    example("late", "v", "77", 90_500, "uniform"),
    example("early", "u", "9", 1_500, "positive"),
    example("unknown", "nobody", "9", 90_500, "positive"),
]
ITEMS = [
    {"event_id": "a", "happened_at": 1, "item_id": "9", "removed": False, "title": "Old", "attributes": "{}"},
    {"event_id": "b", "happened_at": 2, "item_id": "9", "removed": False, "title": "New", "attributes": '{"year": 1}'},
    {"event_id": "c", "happened_at": 2, "item_id": "9", "removed": True, "title": None, "attributes": None},
]
FEATURES = [
    {"item_id": "10", "event_timestamp": 50_000, "item_interactions_total": 5, "item_mean_value": 4.5},
    {"item_id": "10", "event_timestamp": 20_000, "item_interactions_total": 1, "item_mean_value": 1.0},
    {"item_id": "10", "event_timestamp": UNTIL + 1, "item_interactions_total": 99, "item_mean_value": 1.0},
]


def tables(acts: list[dict[str, Any]], examples: list[dict[str, Any]], *later: dict[str, Any]) -> Tables:
    items = [{**item, "categories": ["x"], "text": ""} for item in (*ITEMS, *later)]
    return Tables(
        interactions=table(("happened_at",), acts, session_id=pa.string(), surface=pa.string()),
        items=table(("happened_at",), items),
        item_features=table(("event_timestamp",), FEATURES),
        examples=table(("event_timestamp",), examples),
        until=UNTIL,
    )


@pytest.fixture
def data() -> TrainingData:
    return training_data(tables(ACTS, EXAMPLES))


def test_the_log_is_in_the_order_of_users_times_and_event_ids(data: TrainingData) -> None:
    assert [item.item_id for item in data.items] == ["9", "10"]
    assert data.log.rows.tolist() == [0, 1, 0, 1, 0]  # the guest, then u (event e0 before e1), then v
    assert data.log.times.tolist() == [2_000, 1_000, 3_000, 3_000, 90_000]
    assert [KINDS[kind] for kind in data.log.kinds] == ["hide", "rating", "rating", "rating", "rating"]
    assert data.log.wanted.tolist() == [False, True, True, True, True]


def test_the_probe_surface_and_what_happened_later_are_left_out(data: TrainingData) -> None:
    assert {item.item_id for item in data.items} == {"9", "10"}


def test_an_item_is_what_was_known_of_it_and_what_came_later_only_where_nothing_was() -> None:
    later = [
        {"event_id": name, "happened_at": UNTIL, "item_id": item, "removed": False, "title": name, "attributes": "{}"}
        for name, item in (("tomorrow's", "9"), ("imported", "10"))
    ]
    data = training_data(tables(ACTS, EXAMPLES, *later))
    assert {item.item_id: item.title for item in data.items} == {"9": "New", "10": "imported"}


def test_a_slate_counts_once_the_time_for_clicks_on_it_is_over_and_when_something_of_it_was_chosen() -> None:
    until = CLICK_WINDOW_MS + 200_000
    slates = [("closed", 200_000, 1), ("open", 201_000, 1), ("passed over", 150_000, 0)]
    shown = [example(name, "v", "9", at, "impression") | {"label": label} for name, at, label in slates]
    data = training_data(replace(tables(ACTS, [*EXAMPLES, *shown]), until=until))
    assert data.groups.times.tolist() == [90_000, 200_000]


def test_a_history_ends_before_its_time_and_is_cut_to_its_length(data: TrainingData) -> None:
    u = int(data.log.users[1])
    assert data.log.times[data.log.history(u, 3_000, 10)].tolist() == [1_000]
    assert data.log.times[data.log.history(u, 3_001, 2)].tolist() == [3_000, 3_000]
    earlier = data.log.before(3_000)
    assert earlier.times.tolist() == [2_000, 1_000]
    assert earlier.history(int(data.log.users[4]), UNTIL, 10) == slice(2, 2)


def test_groups_begin_with_the_positive_and_leave_out_what_training_does_not_know(data: TrainingData) -> None:
    groups = data.groups
    assert len(groups) == 1  # the early one lies in the first half of the log, the other user is unknown
    assert groups.rows.tolist() == [[1, 0]]
    assert groups.labels.tolist() == [[True, False]]
    assert groups.sampled.tolist() == [[False, True]]
    assert groups.times.tolist() == [90_000]  # the second's beginning
    assert groups.user_attributes == [{"attributes": '{"job": "nurse"}'}]
    assert (groups.user_values[0].interactions_total, groups.user_values[0].mean_value) == (2, 4.5)


def test_an_item_without_values_gets_the_mean_of_all(data: TrainingData) -> None:
    mean = np.mean([4.0, 2.0, 4.0, 4.0, 4.0])
    assert data.fill_value == pytest.approx(mean)
    assert data.groups.mean_value.tolist() == [[2.5, pytest.approx(mean)]]
    assert data.item_features.mean_value.tolist() == [pytest.approx(mean), 4.5]
    assert data.item_features.interactions_total.tolist() == [0, 5]


def test_the_newest_content_that_is_not_a_removal_holds(data: TrainingData) -> None:
    assert (data.items[0].title, data.items[0].attributes, data.items[1].title) == ("New", {"year": 1.0}, "")


def test_too_little_data_is_refused_with_what_to_run() -> None:
    with pytest.raises(NotEnoughData, match="flywheel land"):
        training_data(tables([act(0, "u", "9", UNTIL)], EXAMPLES))
    with pytest.raises(NotEnoughData, match="build-features"):
        training_data(tables(ACTS, EXAMPLES[3:]))
