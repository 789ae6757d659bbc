"""The collector against a real broker: what it accepts, what it refuses and what it says."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from topic_records import records
from waiting import wait_until

from services.collector import build_collector
from services.config import Settings
from streaming.codec import decode
from streaming.config import KafkaSettings
from streaming.events import (
    ErasureEntered,
    IdentityLinked,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    UserErased,
    UserUpserted,
)
from streaming.marks import Marker
from streaming.namespace import parse_namespace
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

NAMESPACE = "collectortest"
TOPICS = Topics(parse_namespace(NAMESPACE))
WEEK_MS = 7 * 24 * 3_600_000
CLICK = {"user_id": "u1", "item_id": "i1", "kind": "click"}


def settings_for(kafka: KafkaSettings, home: Path, **serving: Any) -> Settings:
    base = Settings(namespace=NAMESPACE, kafka=kafka, home=home)
    return base.model_copy(update={"serving": base.serving.model_copy(update=serving)})


@pytest.fixture(scope="module")
def client(
    broker: KafkaSettings,
    serve: Callable[[Any], AbstractContextManager[httpx.Client]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[httpx.Client]:
    ensure_topics(broker, TOPICS)
    settings = settings_for(broker, tmp_path_factory.mktemp("collector"))
    with serve(build_collector(settings, CollectorRegistry())) as client:
        wait_until(lambda: all(client.get("/readyz").json()["checks"].values()))
        yield client


def find(broker: KafkaSettings, topic: str, event_id: str) -> Any:
    """The event with this id in the topic."""
    events = [decode(record.value) for record in records(broker, topic) if record.value is not None]
    [event] = [event for event in events if event.event_id == event_id]
    return event


def test_an_accepted_event_is_in_kafka_when_the_answer_comes(client: httpx.Client, broker: KafkaSettings) -> None:
    before = time.time_ns() // 1_000_000
    answer = client.post("/v1/events", json=CLICK | {"position": 3, "request_id": "r-1", "surface": "home"})
    assert answer.status_code == 200
    [result] = answer.json()["results"]
    assert result["status"] == "accepted"
    event = find(broker, TOPICS.interactions, result["event_id"])
    assert isinstance(event, Interaction)
    assert (event.user_id, event.item_id, event.kind.value, event.position) == ("u1", "i1", "click", 3)
    assert (event.request_id, event.surface) == ("r-1", "home")
    assert before <= event.happened_at <= event.received_at <= time.time_ns() // 1_000_000


def test_an_event_keeps_the_id_and_the_time_that_it_was_sent_with(client: httpx.Client, broker: KafkaSettings) -> None:
    happened_at = time.time_ns() // 1_000_000 - 60_000
    answer = client.post("/v1/events", json=CLICK | {"event_id": "mine-1", "happened_at": happened_at})
    assert answer.json()["results"] == [{"status": "accepted", "event_id": "mine-1"}]
    assert find(broker, TOPICS.interactions, "mine-1").happened_at == happened_at


def test_a_batch_is_answered_part_by_part_and_one_bad_event_does_not_sink_it(client: httpx.Client) -> None:
    bad = [{"user_id": "u", "item_id": "", "kind": "click"}, {"item_id": "i", "kind": "click"}, 7, CLICK | {"x": 1}]
    answer = client.post("/v1/events", json={"events": [CLICK, *bad, {**CLICK, "kind": "like"}]})
    assert answer.status_code == 207
    body = answer.json()
    assert body["accepted"] == 2
    assert [result["status"] for result in body["results"]] == ["accepted", *["rejected"] * 4, "accepted"]
    fields = [result["errors"][0]["field"] for result in body["results"] if result["status"] == "rejected"]
    assert fields == ["events[1].item_id", "events[2].user_id", "events[3]", "events[4].x"]


@pytest.mark.parametrize("text", ["two words", "Größe 42", "ユーザー", "a/b?c#d%20e", "🦆", "\u0000", "x" * 200])
def test_ids_may_hold_any_character(client: httpx.Client, broker: KafkaSettings, text: str) -> None:
    answer = client.post("/v1/events", json={"user_id": text, "item_id": text, "kind": "view"})
    assert answer.status_code == 200, answer.text
    event = find(broker, TOPICS.interactions, answer.json()["results"][0]["event_id"])
    assert (event.user_id, event.item_id) == (text, text)


def test_an_item_is_upserted_and_removed_with_a_tombstone(client: httpx.Client, broker: KafkaSettings) -> None:
    item = {"item_id": "Größe 42/ü", "title": "Boots", "categories": ["shoes"], "attributes": {"weight": 1.5}}
    added = client.post("/v1/items", json=item)
    event = find(broker, TOPICS.items, added.json()["results"][0]["event_id"])
    assert isinstance(event, ItemUpserted)
    assert (event.item_id, event.title, event.categories, event.attributes) == tuple(item.values())
    removed = client.delete("/v1/items/Gr%C3%B6%C3%9Fe%2042%2F%C3%BC")
    assert removed.status_code == 200
    key = "Größe 42/ü".encode()
    mine = wait_until(lambda: [record for record in records(broker, TOPICS.items) if record.key == key][2:])
    assert mine[0].value is None
    assert isinstance(find(broker, TOPICS.items, removed.json()["results"][0]["event_id"]), ItemRemoved)


def test_users_and_identities_reach_their_topics(client: httpx.Client, broker: KafkaSettings) -> None:
    user = client.post("/v1/users", json={"users": [{"user_id": "u9", "attributes": {"age": 30, "vip": True}}]})
    event = find(broker, TOPICS.users, user.json()["results"][0]["event_id"])
    assert isinstance(event, UserUpserted)
    assert event.attributes == {"age": 30, "vip": True}
    joined = client.post("/v1/identities", json={"session_id": "s9", "user_id": "u9"})
    event = find(broker, TOPICS.identities, joined.json()["results"][0]["event_id"])
    assert isinstance(event, IdentityLinked)
    assert (event.session_id, event.user_id) == ("s9", "u9")


def test_a_user_who_is_to_be_erased_stands_in_the_ledger_and_goes_from_the_users(
    client: httpx.Client, broker: KafkaSettings
) -> None:
    user_id = "Ünser/7"
    answer = client.delete("/v1/users/%C3%9Cnser%2F7")
    assert answer.status_code == 202
    entry = find(broker, TOPICS.erasures, answer.json()["results"][0]["event_id"])
    assert isinstance(entry, ErasureEntered)
    assert entry.mark == Marker(broker, TOPICS.namespace).mark(user_id)
    mine = [record for record in records(broker, TOPICS.users) if record.key == user_id.encode()]
    assert [None if record.value is None else type(decode(record.value)) for record in mine] == [UserErased, None]
    for refused in ("/v1/users/", "/v1/users/" + "x" * 201):
        assert client.delete(refused).status_code == 422


NOW = time.time_ns() // 1_000_000
BAD_BODIES: list[tuple[str, str, str, int, str]] = [
    ("POST", "/v1/events", "", 400, ""),
    ("POST", "/v1/events", "{", 400, ""),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": "rating", "value": NaN}', 400, ""),
    ("POST", "/v1/events", "[" * 100_000, 422, "body"),
    ("POST", "/v1/events", '{"x":' * 100_000, 400, ""),
    ("POST", "/v1/events", "null", 422, "body"),
    ("POST", "/v1/events", "[]", 422, "body"),
    ("POST", "/v1/events", "{}", 422, "item_id"),
    ("POST", "/v1/events", '{"events": []}', 422, "events"),
    ("POST", "/v1/events", '{"events": {}}', 422, "events"),
    ("POST", "/v1/events", '{"events": [{}]}', 422, "events[0].item_id"),
    ("POST", "/v1/events", '{"events": [], "more": 1}', 422, "more"),
    ("POST", "/v1/events", f'{{"events": [{",".join(["1"] * 1001)}]}}', 422, "events"),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": "stare"}', 422, "kind"),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": 3}', 422, "kind"),
    ("POST", "/v1/events", '{"user_id": 7, "item_id": "i", "kind": "view"}', 422, "user_id"),
    ("POST", "/v1/events", '{"item_id": "i", "kind": "view"}', 422, "user_id"),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": "rating"}', 422, "value"),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": "rating", "value": 1e999}', 422, "value"),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": "rating", "value": "5"}', 422, "value"),
    ("POST", "/v1/events", f'{{"user_id": "{"u" * 201}", "item_id": "i", "kind": "view"}}', 422, "user_id"),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "\\ud800", "kind": "view"}', 400, ""),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": "view", "position": -1}', 422, "position"),
    ("POST", "/v1/events", '{"user_id": "u", "item_id": "i", "kind": "view", "positon": 1}', 422, "positon"),
    (
        "POST",
        "/v1/events",
        f'{{"user_id": "u", "item_id": "i", "kind": "view", "happened_at": {NOW - 2 * WEEK_MS}}}',
        422,
        "happened_at",
    ),
    (
        "POST",
        "/v1/events",
        f'{{"user_id": "u", "item_id": "i", "kind": "view", "happened_at": {NOW + WEEK_MS}}}',
        422,
        "happened_at",
    ),
    ("POST", "/v1/items", '{"title": "t"}', 422, "item_id"),
    ("POST", "/v1/items", '{"item_id": "i", "categories": "c"}', 422, "categories"),
    ("POST", "/v1/items", '{"item_id": "i", "attributes": {"a": null}}', 422, "attributes[...]"),
    ("POST", "/v1/items", '{"item_id": "i", "available_from": 5, "available_until": 5}', 422, "available_until"),
    ("POST", "/v1/items", f'{{"item_id": "i", "text": "{"t" * 20_001}"}}', 422, "text"),
    ("POST", "/v1/items", '{"items": "i"}', 422, "items"),
    ("POST", "/v1/users", '{"user_id": null}', 422, "user_id"),
    ("POST", "/v1/users", '{"users": [{"user_id": "u", "age": 3}]}', 422, "users[0].age"),
    ("POST", "/v1/identities", '{"session_id": "s"}', 422, "user_id"),
    ("DELETE", "/v1/items/", "", 422, "item_id"),
    ("DELETE", f"/v1/items/{'i' * 201}", "", 422, "item_id"),
    ("DELETE", "/v1/items/%ff", "", 400, ""),
]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    BAD_BODIES,
    ids=[f"{path[:20]} {body[:60]}" for _, path, body, _, _ in BAD_BODIES],
)
def test_bad_input_is_a_problem_that_names_the_field(
    client: httpx.Client, method: str, path: str, body: str, status: int, field: str
) -> None:
    answer = client.request(method, path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert {"type", "title", "detail"} <= set(problem)
    if field:
        assert problem["errors"][0]["field"] == field
        assert problem["errors"][0]["detail"]


def test_bytes_that_are_no_utf_8_are_bad_input(client: httpx.Client) -> None:
    for body in (b'{"user_id": "\xff", "item_id": "i", "kind": "view"}', b'{"events": [{"user_id": "\xff"}]}', b"\xff"):
        answer = client.post("/v1/events", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
        assert answer.headers["content-type"] == "application/problem+json"


def lines(*parts: Any) -> dict[str, Any]:
    """A request's NDJSON body, a part a line."""
    content = b"\n".join(part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts)
    return {"content": content, "headers": {"content-type": "application/x-ndjson"}}


@pytest.mark.parametrize(
    ("path", "part", "bad"),
    [
        ("/v1/events", CLICK, {**CLICK, "kind": "stare"}),
        ("/v1/items", {"item_id": "i", "title": "t"}, {"item_id": ""}),
        ("/v1/users", {"user_id": "u", "attributes": {"a": 1.0}}, {"user_id": None}),
        ("/v1/identities", {"session_id": "s", "user_id": "u"}, {"session_id": "s"}),
    ],
)
def test_ndjson_is_answered_line_by_line_and_a_broken_line_sinks_no_other(
    client: httpx.Client, broker: KafkaSettings, path: str, part: dict[str, Any], bad: dict[str, Any]
) -> None:
    plural = path.removeprefix("/v1/")
    answer = client.post(path, **lines(part, b"", bad, b"{", b"\xff", part, b"  \r"))
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["accepted", *["rejected"] * 3, "accepted"]
    fields = [error["field"] for result in results for error in result.get("errors", ())]
    assert fields[0].startswith(f"{plural}[1].")
    assert fields[1:] == [f"{plural}[2]", f"{plural}[3]"]
    topic = {"events": TOPICS.interactions}.get(plural, f"{NAMESPACE}.{plural}")
    assert find(broker, topic, results[4]["event_id"])


@pytest.mark.parametrize("body", [b"", b"\n \n", b"{}\n" * 1_001])
def test_ndjson_without_a_line_or_with_too_many_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/v1/events", content=body, headers={"content-type": "application/x-ndjson"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "events"


def test_an_event_that_comes_again_is_called_a_duplicate_and_is_in_kafka_once(
    client: httpx.Client, broker: KafkaSettings
) -> None:
    event = {**CLICK, "event_id": "again-1"}

    def statuses(path: str, **body: Any) -> list[str]:
        answer = client.post(path, **body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["accepted"] == len(answer.json()["results"])
        return [result["status"] for result in answer.json()["results"]]

    assert statuses("/v1/events", json=event) == ["accepted"]
    assert statuses("/v1/events", json=event) == ["duplicate"]
    other = {**CLICK, "event_id": "again-2"}
    assert statuses("/v1/events", **lines(event, other, other)) == ["duplicate", "accepted", "duplicate"]
    for event_id in ("again-1", "again-2"):
        assert find(broker, TOPICS.interactions, event_id)
    for path, body in (("/v1/items", {"item_id": "i"}), ("/v1/users", {"user_id": "u"})):
        assert statuses(path, json={**body, "event_id": "again-1"}) == ["accepted"]  # ids of another kind are others
        assert statuses(path, json={**body, "event_id": "again-1"}) == ["duplicate"]


def test_an_id_that_was_refused_or_not_durable_is_no_duplicate_later(
    client: httpx.Client,
    broker: KafkaSettings,
    nowhere: KafkaSettings,
    serve: Callable[[Any], AbstractContextManager[httpx.Client]],
    tmp_path: Path,
) -> None:
    event = {**CLICK, "event_id": "later-1"}
    assert client.post("/v1/events", json={**event, "kind": "stare"}).status_code == 422
    assert client.post("/v1/events", json=event).json()["results"][0]["status"] == "accepted"
    with serve(build_collector(settings_for(nowhere, tmp_path, event_spool_mb=0), CollectorRegistry())) as lonely:
        for _ in range(2):
            refused = lonely.post("/v1/events", json={"events": [event, event]})
            assert refused.status_code == 503
            assert [result["status"] for result in refused.json()["results"]] == ["not_durable"] * 2


def test_a_body_of_10_mb_is_refused_with_413(client: httpx.Client) -> None:
    big = b'{"events": [' + b" " * 10_000_000 + b"]}"

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(big), 65_536):
            yield big[start : start + 65_536]

    for content in (big, chunks()):
        answer = client.post("/v1/events", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["type"] == "urn:flywheel:problem:body-too-large"


def test_a_body_that_is_not_declared_as_json_is_refused(client: httpx.Client) -> None:
    for headers in ({"content-type": "text/plain"}, {}):
        refused = client.post("/v1/events", content=b"{}", headers=headers)
        assert refused.status_code == 415
        assert "application/x-ndjson" in refused.json()["detail"]


def test_unknown_paths_and_methods_are_problems(client: httpx.Client) -> None:
    assert client.get("/v1/nothing").status_code == 404
    wrong = client.get("/v1/events")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    for answer in (client.get("/v1/nothing"), wrong):
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture
def nowhere(free_tcp_port: int) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_tcp_port}", erasure_key="k" * 40)


def test_without_a_broker_and_a_spool_nothing_is_accepted_and_the_client_is_told_when_to_try_again(
    serve: Callable[[Any], AbstractContextManager[httpx.Client]], nowhere: KafkaSettings, tmp_path: Path
) -> None:
    with serve(build_collector(settings_for(nowhere, tmp_path, event_spool_mb=0), CollectorRegistry())) as client:
        answer = client.post("/v1/events", json=CLICK)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.headers["content-type"] == "application/problem+json"
        assert [result["status"] for result in answer.json()["results"]] == ["not_durable"]
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert ready.json() == {"ready": False, "checks": {"broker": False, "producer": False, "spool": False}}


def test_without_a_broker_every_kind_of_event_is_spooled_until_the_spool_is_full(
    serve: Callable[[Any], AbstractContextManager[httpx.Client]], nowhere: KafkaSettings, tmp_path: Path
) -> None:
    metrics = CollectorRegistry()
    application = build_collector(settings_for(nowhere, tmp_path, event_spool_mb=1), metrics)
    with serve(application) as client:

        def waits(name: str) -> float:
            application.refresh_metrics()
            return metrics.get_sample_value(f"flywheel_spool_{name}", {"spool": "events"}) or 0.0

        for path, body in (
            ("/v1/events", CLICK),
            ("/v1/items", {"item_id": "i"}),
            ("/v1/users", {"users": [{"user_id": "u"}]}),
            ("/v1/identities", {"session_id": "s", "user_id": "u"}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            assert [result["status"] for result in answer.json()["results"]] == ["spooled"]
            assert answer.json()["accepted"] == 1
        assert client.delete("/v1/items/i").json()["results"][0]["status"] == "spooled"
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["checks"]["spool"]) == (200, True)
        assert waits("records") == 6  # a removed item is two records

        items = [{"item_id": f"i{number}", "text": "t" * 15_000} for number in range(40)]
        assert client.post("/v1/items", json={"items": items}).status_code == 200
        refused = client.post("/v1/items", json={"items": items})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        statuses = Counter(result["status"] for result in refused.json()["results"])
        assert set(statuses) == {"spooled", "not_durable"}
        assert f"{statuses['spooled']} of 40 events" in refused.json()["detail"]
        assert waits("records") == 46 + statuses["spooled"]
        assert 900_000 < waits("bytes") <= 1_000_000
        assert waits("oldest_seconds") > 0
        counted = metrics.get_sample_value("flywheel_events_total", {"kind": "items", "status": "spooled"})
        assert counted == 41 + statuses["spooled"]
