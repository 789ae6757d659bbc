"""Pages of one list: nothing twice, nothing left out, and cursors that cannot be used say so."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recommender_in_process import InProcess, in_process

from services.recommend.pages import (
    MAX_SHOWN,
    MAX_TEXT,
    TTL_MS,
    BadCursor,
    Question,
    read_cursor,
    write_cursor,
)

ID = st.text(st.characters(codec="utf-8"), min_size=1, max_size=200)
QUESTION = Question("u1", None, "home", ["drama"], ["i1"])
NOW = 1_790_000_000_000


def pages(recommender: InProcess, sizes: list[int], **body: Any) -> list[list[dict[str, Any]]]:
    """Ask for pages of these sizes, one after another while there are more."""
    found, cursor = [], None
    for n in sizes:
        answer = recommender.post("/v1/recommend", n=n, **body, **({"cursor": cursor} if cursor else {}))
        found.append(answer["slate"])
        cursor = answer["cursor"]
        if cursor is None:
            break
    return found


def ids(slates: list[list[dict[str, Any]]]) -> list[str]:
    return [item["item_id"] for slate in slates for item in slate]


@pytest.mark.parametrize("who", [{"user_id": "u4"}, {"user_id": "nobody"}, {"events": [{"item_id": "i3"}]}])
def test_without_exploration_pages_of_any_size_are_one_long_slate(recommender: InProcess, who: Any) -> None:
    [long] = pages(recommender, [100], **who, surface="probe")
    cut = pages(recommender, [1, 7, 10, 3, 50], **who, surface="probe")
    assert ids(cut) == [item["item_id"] for item in long]
    assert [item["position"] for slate in cut for item in slate] == list(range(len(long)))
    assert [item["score"] for slate in cut for item in slate] == [item["score"] for item in long]


def test_with_exploration_pages_show_everything_once(recommender: InProcess, world: Any) -> None:
    shown = ids(pages(recommender, [10] * 10, user_id="u4"))
    assert len(shown) == len(set(shown))
    assert set(shown) == {item.item_id for item in world.items} - set(world.history("u4"))


def test_what_happens_between_two_pages_neither_repeats_nor_skips_an_item(
    world: Any, artifact: tuple[Path, str]
) -> None:
    with in_process(world, artifact) as recommender:
        first = recommender.post("/v1/recommend", user_id="u4", n=10, surface="probe")
        shown = [item["item_id"] for item in first["slate"]]
        latest = world.items[0]
        recommender.put(type(latest)(**{**_fields(latest), "item_id": "brand new", "event_id": "n"}))
        rest = []
        cursor, events = first["cursor"], [{"item_id": shown[0], "kind": "click"}]
        while cursor is not None:
            more = {"user_id": "u4", "n": 10, "surface": "probe", "cursor": cursor, "events": events}
            answer = recommender.post("/v1/recommend", **more)
            rest += [item["item_id"] for item in answer["slate"]]
            cursor = answer["cursor"]
        assert len(rest) == len(set(rest))
        everything = {item.item_id for item in world.items} | {"brand new"}
        assert set(rest) == everything - set(world.history("u4")) - set(shown)


def _fields(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def test_each_page_is_logged_as_a_slate_of_its_own_that_goes_on_with_the_positions(recommender: InProcess) -> None:
    recommender.log.impressions.clear()
    slates = pages(recommender, [5, 5], user_id="u4")
    logged = recommender.log.impressions
    assert len({one.event_id for one in logged}) == 2
    assert [[(item.item_id, item.position) for item in one.slate] for one in logged] == [
        [(item["item_id"], item["position"]) for item in slate] for slate in slates
    ]


def test_a_guest_without_a_sessions_id_keeps_the_one_that_was_given(recommender: InProcess) -> None:
    body = {"events": [{"item_id": "i3"}], "n": 5}
    first = recommender.post("/v1/session/recommend", **body)
    second = recommender.post("/v1/session/recommend", **body, cursor=first["cursor"])
    assert second["session_id"] == first["session_id"]


def test_a_cursor_that_cannot_be_used_is_named(recommender: InProcess) -> None:
    first = recommender.post("/v1/recommend", user_id="u4", n=5, categories=["drama"])
    good = {"user_id": "u4", "n": 5, "categories": ["drama"], "cursor": first["cursor"]}
    recommender.post("/v1/recommend", **good)
    others = ({"user_id": "u5"}, {"session_id": "s"}, {"surface": "probe"}, {"categories": []}, {"exclude": ["i"]})
    for changed in others:
        detail = recommender.refused("/v1/recommend", **good | changed)["cursor"]
        assert "another question" in detail
    for cursor in ("x", "Größe", first["cursor"][:-4], first["cursor"][4:], "AAAA", "=" * 8):
        detail = recommender.refused("/v1/recommend", **good | {"cursor": cursor})["cursor"]
        assert "is none that an answer gave" in detail
    assert set(recommender.refused("/v1/recommend", **good | {"cursor": "A" * (MAX_TEXT + 1)})) == {"cursor"}
    recommender.now += TTL_MS + 1
    try:
        assert "has expired" in recommender.refused("/v1/recommend", **good)["cursor"]
    finally:
        recommender.now -= TTL_MS + 1


@given(shown=st.lists(ID, min_size=1, max_size=30), session=st.none() | ID, user=st.none() | ID)
def test_a_cursor_says_what_was_written(shown: list[str], session: str | None, user: str | None) -> None:
    question = Question(user, session, "home", [], [])
    text = write_cursor(NOW, question, shown)
    assert text is not None
    cursor = read_cursor(text, NOW + TTL_MS)
    assert (list(cursor.shown), cursor.session_id, cursor.began) == (shown, session, NOW)
    cursor.check(question)


def test_a_list_ends_where_its_cursor_would_grow_too_long() -> None:
    assert write_cursor(NOW, QUESTION, []) is None
    assert write_cursor(NOW, QUESTION, ["i"] * MAX_SHOWN) is None
    assert write_cursor(NOW, QUESTION, ["i"] * (MAX_SHOWN - 1)) is not None
    assert write_cursor(NOW, QUESTION, ["\U0001f986" * 200] * 100) is None


@given(text=st.text(max_size=100) | st.binary(max_size=100).map(lambda data: data.hex()))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        read_cursor(text, NOW)
