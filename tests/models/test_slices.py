"""What is read of the lake around a moment."""

import pytest
from lake import write_rows

from models.slices import Slice, read_slice
from streaming.events import PROBE_SURFACE
from streaming.ids import ItemId, UserId
from streaming.namespace import Namespace

SHOP, START, DAY = Namespace("shop"), 100 * 86_400_000, 86_400_000
A, B = UserId("a"), UserId("b")


def act(number: int, user: str | None, item: str, at: int, **other: object) -> dict[str, object]:
    return {"event_id": f"e{number}", "user_id": user, "item_id": item, "happened_at": at, "kind": "click"} | other


def item(number: int, name: str, at: int, **other: object) -> dict[str, object]:
    return {"event_id": f"i{number}", "item_id": name, "happened_at": at, "removed": False, "hidden": False} | other


ACTS = [
    act(1, "a", "1", START - 2 * DAY),
    act(2, "a", "2", START - DAY, kind="rating", value=4.0),
    act(3, "a", "3", START),
    act(4, "a", "4", START + 1, kind="hide"),
    act(5, None, "5", START - DAY, session_id="guest"),
    act(6, "b", "6", START - DAY, surface=PROBE_SURFACE),
    act(7, "b", "7", START - DAY, kind="skip"),
]


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Slice:
    catalogue = [
        item(1, "shown", START - 9 * DAY, title="old"),
        item(2, "shown", START - 8 * DAY, title="new", categories=["x"], attributes='{"year": 1999}'),
        item(3, "gone", START - 9 * DAY),
        item(4, "gone", START - 8 * DAY, removed=True),
        item(5, "hidden", START - 9 * DAY, hidden=True),
        item(6, "too early", START - 9 * DAY, available_from=START + 1),
        item(7, "too late", START - 9 * DAY, available_until=START),
        item(8, "in time", START - 9 * DAY, available_from=START, available_until=START + 1),
        item(9, "not yet known", START),
    ]
    features = [
        {"user_id": "a", "event_timestamp": START - DAY, "interactions_total": 1},
        {"user_id": "a", "event_timestamp": START, "interactions_total": 2, "mean_value": 4.0},
        {"user_id": "a", "event_timestamp": START + DAY, "interactions_total": 9},
    ]
    home = tmp_path_factory.mktemp("lake")
    return read_slice(write_rows(home, SHOP, interactions=ACTS, items=catalogue, user_features=features), SHOP, START)


def test_histories_end_at_the_start_and_targets_are_what_was_wanted_from_then_on(part: Slice) -> None:
    assert [event.item_id for event in part.users[A].events] == ["1", "2"]
    assert part.users[A].targets == {"3"}


def test_guests_and_our_own_measurements_are_left_out(part: Slice) -> None:
    assert set(part.users) == {A, B}
    assert [event.item_id for event in part.users[B].events] == ["7"]


def test_training_is_what_was_wanted_in_the_order_of_time(part: Slice) -> None:
    assert [(event.user_id, event.item_id) for event in part.training] == [("a", "1"), ("a", "2")]
    assert part.counts == {"1": 1, "2": 1}


def test_the_catalogue_is_what_could_be_shown_at_the_start(part: Slice) -> None:
    assert {name for name, content in part.items.items() if content} == {"shown", "in time"}
    assert {name for name, content in part.items.items() if not content} == {"gone", "hidden", "too early", "too late"}
    shown = part.content(ItemId("shown"))
    assert (shown.title, shown.categories, shown.attributes) == ("new", ("x",), {"year": 1999})
    assert part.content(ItemId("unheard of")).title == ""


def test_features_are_the_newest_at_the_start(part: Slice) -> None:
    assert part.features == {A: {"interactions_total": 2, "mean_value": 4.0}}


def test_other_targets_may_be_put_in_their_place(part: Slice) -> None:
    other = part.followed_by({A: [ItemId("2"), ItemId("9")], UserId("c"): [ItemId("1")]})
    assert {user: past.targets for user, past in other.users.items()} == {A: {"9"}, B: set(), UserId("c"): {"1"}}
    assert (other.items, other.features, other.start) == (part.items, part.features, part.start)
