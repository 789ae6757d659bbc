"""The recommender and the collector with a real broker, store, updater and model: what applications see."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck
from kafka import KafkaConsumer, TopicPartition
from prometheus_client import CollectorRegistry
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)
from waiting import wait_until

from features.config import StoreSettings
from features.slate_records import SlateRecords
from features.updater import run_updater
from models.registry import Champion, Registry
from services.client import (
    AsyncClient,
    Client,
    EventBody,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    Refused,
    Services,
    SimilarRequest,
)
from services.collector import build_collector
from services.config import Settings
from services.recommend.surfaces import BUILT_IN
from services.recommender import build_recommender
from streaming.codec import decode
from streaming.config import KafkaSettings, client_options
from streaming.events import Impression, ItemUpserted, Kind, ModelPromoted
from streaming.ids import UserId
from streaming.namespace import parse_namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics

NAMESPACE = "servingtest"
Serve = Callable[[Any], AbstractContextManager[httpx.Client]]


@dataclass(frozen=True)
class Circle:
    """Both services and what they were built from."""

    settings: Settings
    recommender: httpx.Client
    collector: httpx.Client
    metrics: CollectorRegistry
    model_version: str

    def recommend(self, **body: Any) -> dict[str, Any]:
        answer = self.recommender.post("/v1/recommend", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def shown(self, **body: Any) -> list[str]:
        return [item["item_id"] for item in self.recommend(**body)["slate"]]

    def send(self, path: str, **body: Any) -> None:
        answer = self.collector.post(path, json=body)
        assert answer.status_code == 200, answer.text


@pytest.fixture(scope="module")
def settings(broker: KafkaSettings, valkey: StoreSettings, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    home = tmp_path_factory.mktemp("home")
    base = Settings(namespace=NAMESPACE, kafka=broker, store=valkey.under(home), home=home)
    patient = base.serving.model_copy(update={"store_deadline_ms": 2_000, "champion_poll_seconds": 0.2})
    return base.model_copy(update={"serving": patient})


@pytest.fixture(scope="module")
def circle(settings: Settings, world: Any, artifact: tuple[Path, str], serve: Serve) -> Iterator[Circle]:
    ensure_topics(settings.kafka, settings.topics)
    producer = EventProducer(settings.kafka, settings.topics)
    producer.publish([*world.items, *world.interactions])
    folder, version = artifact
    registry = Registry(str(settings.home / "models"), parse_namespace(NAMESPACE))
    registry.add(folder, version)
    promoted = Champion(number=1, model_version=version, change="promote", changed_at=world.now, gate={}, reason="test")
    registry.promote(promoted)
    stop = threading.Event()
    updater = threading.Thread(target=run_updater, args=(settings.kafka, settings.store, settings.topics, stop))
    updater.start()
    metrics = CollectorRegistry()
    try:
        with (
            serve(build_recommender(settings, metrics)) as recommender,
            serve(build_collector(settings, CollectorRegistry())) as collector,
        ):
            one = Circle(settings, recommender, collector, metrics, version)
            wait_until(lambda: recommender.get("/readyz").status_code == 200, 60)
            wait_until(lambda: all(collector.get("/readyz").json()["checks"].values()))
            wait_until(lambda: set(world.history("u39")).isdisjoint(one.shown(user_id="u39", n=60)), 60)
            yield one
    finally:
        stop.set()
        updater.join()
        producer.close()


def impressions(settings: Settings) -> list[Impression]:
    consumer = KafkaConsumer(**client_options(settings.kafka))
    try:
        topic = settings.topics.impressions
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        found: list[Any] = []
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for polled in consumer.poll(timeout_ms=200).values():
                found += [decode(record.value) for record in polled]
        return found
    finally:
        consumer.close()


def test_a_known_user_gets_unseen_items_from_the_model(circle: Circle, world: Any) -> None:
    answer = circle.recommend(user_id="u1", n=10)
    assert answer["model_version"] == circle.model_version
    assert answer["fallbacks"] == []
    assert answer["variant"] == "champion"
    assert [item["position"] for item in answer["slate"]] == list(range(10))
    shown = [item["item_id"] for item in answer["slate"]]
    assert len(set(shown)) == 10
    assert set(shown).isdisjoint(world.history("u1"))
    assert {item["source"] for item in answer["slate"]} & {"sequence", "co_visited"}


def test_the_slate_is_never_short_while_items_may_be_shown(circle: Circle, world: Any) -> None:
    unseen = {item.item_id for item in world.items} - set(world.history("u2"))
    assert set(circle.shown(user_id="u2", n=100, surface="probe")) >= unseen


def test_a_guest_is_answered_from_the_session_and_an_unknown_user_from_popularity(circle: Circle) -> None:
    events = [{"item_id": f"i{item}"} for item in (0, 3, 6, 9)]
    guest = circle.recommend(events=events, n=10, surface="probe")
    assert guest["fallbacks"] == []
    assert guest["session_id"]
    shown = [item["item_id"] for item in guest["slate"]]
    assert {"i0", "i3", "i6", "i9"}.isdisjoint(shown)
    unknown = circle.recommend(user_id="nobody ever", n=10, surface="probe")
    assert unknown["fallbacks"] == ["no_history"]
    assert len(unknown["slate"]) == 10
    assert [item["item_id"] for item in unknown["slate"]] != shown


def test_categories_and_exclusions_hold(circle: Circle) -> None:
    dramas = circle.shown(user_id="nobody", n=10, categories=["drama"])
    assert len(dramas) == 10
    assert all(int(item[1:]) % 3 == 0 for item in dramas if item[1:].isdigit())
    others = circle.shown(user_id="nobody", n=10, categories=["drama"], exclude=dramas)
    assert len(others) == 10
    assert set(others).isdisjoint(dramas)


def test_a_click_changes_the_next_slate(circle: Circle) -> None:
    before = circle.recommend(user_id="u5", n=10, surface="probe")
    first = before["slate"][0]["item_id"]
    assert circle.shown(user_id="u5", n=10, surface="probe") == [item["item_id"] for item in before["slate"]]
    circle.send(
        "/v1/events",
        user_id="u5",
        item_id=first,
        kind="click",
        request_id=before["request_id"],
        position=0,
        surface="probe",
    )
    after = wait_until(
        lambda: [shown] if first not in (shown := circle.shown(user_id="u5", n=10, surface="probe")) else 0
    )
    assert after != [[item["item_id"] for item in before["slate"]]]


def test_a_new_item_is_recommendable_and_a_removed_one_is_not(circle: Circle) -> None:
    circle.send("/v1/items", item_id="brand new", title="New", categories=["novelty"], attributes={"year": 2026})
    wait_until(lambda: circle.shown(user_id="u6", n=5, categories=["novelty"]) == ["brand new"], 5)
    [item] = circle.recommend(user_id="u6", n=5, categories=["novelty"])["slate"]
    assert item["source"] in ("new", "sequence")  # by its content vector the sequence model can find it too
    # A slot of every slate on the home surface is kept for items that the model was not trained on.
    assert "brand new" in circle.shown(user_id="u6", n=10)
    assert len(circle.recommender.post("/v1/similar", json={"item_id": "brand new", "n": 5}).json()["slate"]) == 5
    circle.send("/v1/items", item_id="brand new", categories=["novelty"], hidden=True)
    wait_until(lambda: circle.shown(user_id="u6", n=5, categories=["novelty"]) == [], 5)
    circle.send("/v1/items", item_id="brand new", categories=["novelty"])
    wait_until(lambda: circle.shown(user_id="u6", n=5, categories=["novelty"]) == ["brand new"], 5)
    assert circle.collector.delete("/v1/items/brand%20new").status_code == 200
    wait_until(lambda: circle.shown(user_id="u6", n=5, categories=["novelty"]) == [], 5)
    assert circle.recommender.post("/v1/similar", json={"item_id": "brand new"}).status_code == 404


def test_similar_items_are_full_and_leave_the_item_out(circle: Circle) -> None:
    answer = circle.recommender.post("/v1/similar", json={"item_id": "i0", "n": 50, "exclude": ["i1"]})
    assert answer.status_code == 200
    shown = [item["item_id"] for item in answer.json()["slate"]]
    assert len(set(shown)) == 50
    assert {"i0", "i1"}.isdisjoint(shown)
    genres = [int(item[1:]) % 3 for item in shown[:6]]
    assert genres.count(0) >= 4


def test_what_was_shown_is_logged_with_its_probabilities(circle: Circle, world: Any) -> None:
    answer = circle.recommend(user_id="u7", n=10, context={"device": "phone"})
    [logged] = wait_until(lambda: [one for one in impressions(circle.settings) if one.event_id == answer["request_id"]])
    assert logged.user_id == "u7"
    assert (logged.surface, logged.model_version) == ("home", circle.model_version)
    assert logged.surfaces_version == answer["surfaces_version"] == BUILT_IN["home"].version
    assert logged.policy == "explored"
    assert [item.item_id for item in logged.slate] == [item["item_id"] for item in answer["slate"]]
    assert all(0 < item.propensity <= 1 for item in logged.slate)
    assert logged.user_state.history == world.history("u7")
    assert logged.user_state.features["context.device"] == "phone"
    assert sum(logged.catalogue_offsets.values()) >= len(world.items)


def test_an_evaluation_asks_as_of_past_times_and_leaves_no_trace(circle: Circle, world: Any) -> None:
    before = circle.shown(user_id="u8", n=10, surface="probe")
    logged = len(impressions(circle.settings))
    started = circle.recommender.post("/v1/evaluations")
    path = f"/v1/evaluations/{started.json()['evaluation_id']}"
    last = max(event.happened_at for event in world.interactions if event.user_id == "u8")
    fed = {"item_id": before[0], "kind": "click", "happened_at": last + 2_000}
    steps = [
        {"user_id": "u8", "as_of": last + 1_000, "n": 10, "then": [fed]},
        {"user_id": "u8", "as_of": last + 3_000, "n": 10},
        {"user_id": "u9", "as_of": last + 3_000, "n": 5},
    ]
    answer = circle.recommender.post(f"{path}/recommend", json={"steps": steps})
    assert answer.status_code == 200, answer.text
    first, second, other = ([item["item_id"] for item in one["slate"]] for one in answer.json()["slates"])
    assert before[0] in first
    assert before[0] not in second
    assert second != first
    assert len(other) == 5
    assert circle.recommender.delete(path).status_code == 204
    assert circle.recommender.post(f"{path}/recommend", json={"steps": steps}).status_code == 404
    assert circle.shown(user_id="u8", n=10, surface="probe") == before
    assert len(impressions(circle.settings)) <= logged + 1 + 1  # the two slates asked for around the evaluation


def test_a_context_of_flags_numbers_and_texts_is_logged_so_that_it_can_be_read(circle: Circle) -> None:
    answer = circle.recommend(user_id="u7", n=5, context={"mobile": True, "hour": 7, "page": "home"})
    [logged] = wait_until(lambda: [one for one in impressions(circle.settings) if one.event_id == answer["request_id"]])
    features = logged.user_state.features
    assert (features["context.mobile"], features["context.hour"], features["context.page"]) == (1.0, 7.0, "home")


def test_evaluations_repeat_exactly(circle: Circle, world: Any) -> None:
    at = world.now - 1_000
    fed = [{"item_id": f"i{item}", "kind": "like", "happened_at": at} for item in (3, 10, 17)]  # all at one time
    steps = [{"user_id": f"u{user}", "as_of": at, "n": 20, "then": fed} for user in range(10)]
    steps += [{"user_id": f"u{user}", "as_of": at + 1, "n": 20} for user in range(10)]
    answers = []
    for _ in range(2):
        path = f"/v1/evaluations/{circle.recommender.post('/v1/evaluations').json()['evaluation_id']}"
        answers.append(circle.recommender.post(f"{path}/recommend", json={"steps": steps}).json())
        circle.recommender.delete(path)
    assert answers[0] == answers[1]


def test_pages_go_on_where_the_one_before_ended(circle: Circle, world: Any) -> None:
    shown: list[str] = []
    page: dict[str, Any] = {"cursor": None}
    while page["cursor"] is not None or not shown:
        more = {} if page["cursor"] is None else {"cursor": page["cursor"]}
        page = circle.recommend(user_id="u10", n=10, **more)
        assert [item["position"] for item in page["slate"]] == list(range(len(shown), len(shown) + len(page["slate"])))
        shown += [item["item_id"] for item in page["slate"]]
    assert len(shown) == len(set(shown))
    assert set(shown) >= {item.item_id for item in world.items} - set(world.history("u10"))


def test_a_click_changes_the_order_of_a_list(circle: Circle, world: Any) -> None:
    body = {"user_id": "u11", "items": [item.item_id for item in world.items], "surface": "probe"}

    def scores() -> dict[str, float]:
        answer = circle.recommender.post("/v1/rank", json=body)
        assert answer.status_code == 200, answer.text
        return {item["item_id"]: item["score"] for item in answer.json()["items"]}

    before = scores()
    assert set(before) == {item.item_id for item in world.items}
    circle.send("/v1/events", user_id="u11", item_id="i1", kind="click", surface="probe")
    wait_until(lambda: max(abs(score - before[item_id]) for item_id, score in scores().items()) > 1e-2)


def test_every_answer_of_a_batch_and_an_order_that_counts_as_shown_are_logged(circle: Circle) -> None:
    requests = [{"user_id": "u12", "n": 3}, {"events": [{"item_id": "i4"}], "n": 3}]
    batch = circle.recommender.post("/v1/recommend/batch", json={"requests": requests}).json()["results"]
    rank = circle.recommender.post("/v1/rank", json={"user_id": "u12", "items": ["i1", "i2"], "log": True}).json()
    expected = {one["answer"]["request_id"] for one in batch} | {rank["request_id"]}
    wait_until(lambda: expected <= {one.event_id for one in impressions(circle.settings)})


def test_a_click_counts_in_the_popular_items(circle: Circle) -> None:
    def uses(path: str) -> int:
        items = circle.recommender.post(path, json={"n": 100}).json()["items"]
        return {item["item_id"]: item["uses"] for item in items}.get("i13", 0)

    popular, trending = uses("/v1/popular"), uses("/v1/trending")
    circle.send("/v1/events", session_id="somebody", item_id="i13", kind="click")
    wait_until(lambda: (uses("/v1/popular"), uses("/v1/trending")) == (popular + 1, trending + 1))


def test_what_is_in_force_is_told(circle: Circle) -> None:
    assert circle.recommender.get("/v1/models").json()["loaded"]["model_version"] == circle.model_version
    names = {one["name"] for one in circle.recommender.get("/v1/surfaces").json()["surfaces"]}
    assert names == {"home", "probe"}


def test_a_slate_can_be_explained_until_its_user_is_forgotten(circle: Circle, world: Any) -> None:
    answer = circle.recommend(user_id="u14", n=10, context={"page": "home"})
    path = f"/v1/explain/{answer['request_id']}"
    why = wait_until(lambda: found.json() if (found := circle.recommender.get(path)).status_code == 200 else None)
    assert [item["item_id"] for item in why["items"]] == [item["item_id"] for item in answer["slate"]]
    assert [item["source"] for item in why["items"]] == [item["source"] for item in answer["slate"]]
    assert (why["request_id"], why["user_id"], why["context"]) == (answer["request_id"], "u14", {"page": "home"})
    assert {one["item_id"] for item in why["items"] for one in item["drivers"]} <= set(world.history("u14"))
    assert all(item["features"] and item["drivers"] and item["task_scores"] for item in why["items"])
    assert why["notes"] == []
    records = SlateRecords(circle.settings.store, parse_namespace(NAMESPACE))
    assert records.delete_user(UserId("u14")) >= 1
    gone = circle.recommender.get(path)
    assert gone.status_code == 404
    assert "kept for 15 minutes" in gone.json()["detail"]
    for command in ("explain", "replay"):
        assert f"`flywheel {command} {answer['request_id']}`" in gone.json()["detail"]


@pytest.mark.parametrize("request_id", ["x", "0" * 31, "0" * 33, "A" * 32, "*" * 32, "0" * 31 + "%0A", "%F0%9F%A6%86"])
def test_what_is_no_request_id_is_refused(circle: Circle, request_id: str) -> None:
    answer = circle.recommender.get(f"/v1/explain/{request_id}")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "request_id"


RECOMMEND, SIMILAR, EVALUATE = "/v1/recommend", "/v1/similar", "/v1/evaluations/none/recommend"
GUEST, BATCH, RANK, POPULAR = "/v1/session/recommend", "/v1/recommend/batch", "/v1/rank", "/v1/popular"
BAD_BODIES: list[tuple[str, str, int, str]] = [
    (RECOMMEND, "", 400, ""),
    (RECOMMEND, "{", 400, ""),
    (RECOMMEND, '{"user_id": "u", "n": NaN}', 400, ""),
    (RECOMMEND, '{"user_id": "u", "x":' + "[" * 100_000, 422, "x"),
    (RECOMMEND, "[]", 422, "body"),
    (RECOMMEND, "{}", 422, "user_id"),
    (RECOMMEND, '{"user_id": ""}', 422, "user_id"),
    (RECOMMEND, f'{{"user_id": "{"u" * 201}"}}', 422, "user_id"),
    (RECOMMEND, '{"user_id": 7}', 422, "user_id"),
    (RECOMMEND, '{"user_id": "u", "n": 0}', 422, "n"),
    (RECOMMEND, '{"user_id": "u", "n": 101}', 422, "n"),
    (RECOMMEND, '{"user_id": "u", "n": 1.5}', 422, "n"),
    (RECOMMEND, '{"user_id": "u", "n": "10"}', 422, "n"),
    (RECOMMEND, '{"user_id": "u", "surface": "roof"}', 422, "surface"),
    (RECOMMEND, '{"user_id": "u", "categories": [""]}', 422, "categories[0]"),
    (RECOMMEND, '{"user_id": "u", "exclude": "i1"}', 422, "exclude"),
    (RECOMMEND, '{"user_id": "u", "context": {"a": []}}', 422, "context[...]"),
    (RECOMMEND, '{"user_id": "u", "events": [{"item_id": "i", "kind": "stare"}]}', 422, "events[0].kind"),
    (RECOMMEND, '{"user_id": "u", "events": [{"kind": "view"}]}', 422, "events[0].item_id"),
    (RECOMMEND, '{"user": "u"}', 422, "user"),
    (RECOMMEND, '{"user_id": "u", "cursor": "made up"}', 422, "cursor"),
    (RECOMMEND, '{"user_id": "u", "cursor": ""}', 422, "cursor"),
    (RECOMMEND, '{"user_id": "u", "why": 1}', 422, "why"),
    (GUEST, '{"user_id": "u"}', 422, "user_id"),
    (GUEST, '{"cursor": "made up"}', 422, "cursor"),
    (BATCH, "{}", 422, "requests"),
    (BATCH, '{"requests": []}', 422, "requests"),
    (BATCH, '{"requests": [{"user_id": "u", "n": 0}]}', 422, "requests[0].n"),
    (BATCH, '{"requests": [{"user_id": "u"}], "n": 5}', 422, "n"),
    (RANK, '{"user_id": "u"}', 422, "items"),
    (RANK, '{"user_id": "u", "items": []}', 422, "items"),
    (RANK, '{"items": ["i1"]}', 422, "user_id"),
    (RANK, '{"user_id": "u", "items": ["i1", ""]}', 422, "items[1]"),
    (RANK, '{"user_id": "u", "items": ["i1"], "surface": "roof"}', 422, "surface"),
    (RANK, '{"user_id": "u", "items": ["i1"], "weights": {"like": "much"}}', 422, "weights[...]"),
    (POPULAR, '{"n": 101}', 422, "n"),
    (SIMILAR, "{}", 422, "item_id"),
    (SIMILAR, '{"item_id": "not there"}', 404, "item_id"),
    (SIMILAR, '{"item_id": "i1", "n": -1}', 422, "n"),
    (SIMILAR, '{"item_id": "i1", "user_id": "u"}', 422, "user_id"),
    (EVALUATE, '{"steps": []}', 422, "steps"),
    (EVALUATE, '{"steps": [{"user_id": "u", "as_of": -1}]}', 422, "steps[0].as_of"),
    (EVALUATE, '{"steps": [{"user_id": "u", "as_of": 1}]}', 404, ""),
]


@pytest.mark.parametrize(
    ("path", "body", "status", "field"), BAD_BODIES, ids=[f"{path[4:9]} {body[:60]}" for path, body, _, _ in BAD_BODIES]
)
def test_bad_input_is_a_problem_that_names_the_field(
    circle: Circle, path: str, body: str, status: int, field: str
) -> None:
    answer = circle.recommender.post(path, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if field:
        assert answer.json()["errors"][0]["field"] == field


@pytest.mark.parametrize("text", ["two words", "Größe 42", "ユーザー", "a/b?c#d%20e", "🦆", "\u0000"])
def test_ids_may_hold_any_character(circle: Circle, text: str) -> None:
    answer = circle.recommend(user_id=text, session_id=text, exclude=[text], categories=[], context={text: text})
    assert len(answer["slate"]) == 20


@schemathesis.serializer("application/x-ndjson")
def _lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    return b"\n".join(json.dumps(part).encode() for part in (value if isinstance(value, list) else [value]))


@pytest.mark.parametrize("service", ["recommender", "collector"])
def test_whatever_the_document_allows_or_not_the_answer_is_one_it_lists(circle: Circle, service: str) -> None:
    client: httpx.Client = getattr(circle, service)
    refusals = ["400", "404", "405", "413", "415", "422", "429", "5xx", "207"]  # 207: some parts were refused
    config = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": refusals}}})
    document = schemathesis.openapi.from_dict(client.get("/docs.json").json(), config=config)
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
        negative_data_rejection,
    ]
    often = hypothesis.settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=HealthCheck)
    for operation in (result.ok() for result in document.get_all_operations()):
        for mode in GenerationMode if operation.body else (GenerationMode.POSITIVE,):

            @often
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def holds(case: schemathesis.Case) -> None:
                case.call_and_validate(base_url=str(client.base_url), checks=checks)

            holds()


def test_the_client_asks_typed_questions_and_a_tracked_click_changes_the_next_slate(circle: Circle) -> None:
    services = Services(collector=str(circle.collector.base_url), recommender=str(circle.recommender.base_url))
    with Client(services) as client:
        slate = client.recommend(RecommendRequest(user_id="client-1", n=5))
        assert [item.position for item in slate.slate] == [0, 1, 2, 3, 4]
        clicked = slate.slate[0].item_id
        client.track(
            EventBody(item_id=clicked, kind=Kind.CLICK, user_id="client-1", request_id=slate.request_id, position=0)
        )
        assert client.flush(20)
        wait_until(lambda: clicked not in shown(client.recommend(RecommendRequest(user_id="client-1", n=5))))
        ranked = client.rank(RankRequest(items=["i1", "nothing", "i2"], user_id="client-1"))
        assert {item.item_id: item.known for item in ranked.items} == {"i1": True, "i2": True, "nothing": False}
        assert len(client.similar(SimilarRequest(item_id="i1", n=3)).slate) == 3
        with pytest.raises(Refused, match="no item 'nothing'") as refused:
            client.similar(SimilarRequest(item_id="nothing"))
        assert refused.value.problem.errors[0].field == "item_id"


def test_the_asynchronous_client_asks_the_same(circle: Circle) -> None:
    services = Services(collector=str(circle.collector.base_url), recommender=str(circle.recommender.base_url))

    async def ask() -> None:
        async with AsyncClient(services) as client:
            slates = await asyncio.gather(
                *(client.recommend(RecommendRequest(user_id=f"client-{number}", n=5)) for number in range(8))
            )
            assert {len(slate.slate) for slate in slates} == {5}
            assert len((await client.rank(RankRequest(items=["i1", "i2"], session_id="s"))).items) == 2
            assert len((await client.similar(SimilarRequest(item_id="i1", n=3))).slate) == 3

    asyncio.run(ask())


def shown(answer: RecommendAnswer) -> list[str]:
    return [item.item_id for item in answer.slate]


def test_another_champion_takes_over_without_a_failed_request(
    circle: Circle, world: Any, artifact: tuple[Path, str], tmp_path: Path
) -> None:
    """A rollback to the first model follows; a broken champion leaves the one that answers in place."""
    folder, version = artifact
    registry = Registry(str(circle.settings.home / "models"), parse_namespace(NAMESPACE))
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "ranker.onnx").write_bytes(b"damaged")
    registry.add(broken, "broken")
    registry.promote(
        Champion(number=2, model_version="broken", change="promote", changed_at=world.now, gate={}, reason="test")
    )
    producer = EventProducer(circle.settings.kafka, circle.settings.topics)
    announcement = {"event_id": "m2", "happened_at": world.now, "received_at": world.now, "producer": "test"}
    producer.publish([ModelPromoted(model_version="broken", champion_number=2, **announcement)])
    for _ in range(50):
        assert circle.recommend(user_id="u3", n=5)["model_version"] == version
    registry.rollback(world.now, "broken")
    assert circle.recommend(user_id="u3", n=5)["model_version"] == version


def test_the_metrics_tell_requests_stages_fallbacks_and_the_model(circle: Circle) -> None:
    circle.recommend(user_id="nobody", n=5)
    circle.recommender.get("/metrics")
    value = circle.metrics.get_sample_value
    labels = {"route": "/v1/recommend", "method": "POST", "status": "200"}
    assert value("flywheel_request_seconds_count", labels) > 0
    for stage in ("user_state", "filters", "candidates", "ranking", "slate", "impression"):
        assert value("flywheel_stage_seconds_count", {"stage": stage}) > 0
    assert value("flywheel_fallbacks_total", {"name": "no_history"}) > 0
    assert value("flywheel_model", {"model_version": circle.model_version}) == 1
    assert value("flywheel_model_age_seconds") > 0
    assert value("flywheel_impressions_total", {"status": "sent"}) > 0
    assert value("flywheel_tail_records_total", {"topic": circle.settings.topics.items}) >= 60


def test_how_late_a_record_was_applied_is_told_of_what_came_since_the_recommender_follows(
    circle: Circle, world: Any
) -> None:
    def told(suffix: str) -> float:
        labels = {"topic": circle.settings.topics.items}
        return float(circle.metrics.get_sample_value(f"flywheel_tail_lag_seconds_{suffix}", labels) or 0)

    count, total = told("count"), told("sum")
    assert count < len(world.items), "what was there before is not late"
    with closing(EventProducer(circle.settings.kafka, circle.settings.topics)) as producer:
        producer.publish([world.items[0]])
    wait_until(lambda: told("count") == count + 1)
    assert 0 <= told("sum") - total < 60


def test_without_a_model_everybody_gets_popular_items(circle: Circle, serve: Serve, tmp_path: Path) -> None:
    with serve(build_recommender(circle.settings.model_copy(update={"home": tmp_path}), CollectorRegistry())) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        answer = client.post("/v1/recommend", json={"user_id": "u1", "n": 10}).json()
        assert answer["model_version"] is None
        assert answer["fallbacks"] == ["no_model"]
        assert len(answer["slate"]) == 10
        similar = client.post("/v1/similar", json={"item_id": "i0", "n": 5}).json()
        assert len(similar["slate"]) == 5
        assert similar["fallbacks"] == ["no_model"]


def test_with_the_store_down_a_session_still_counts(circle: Circle, serve: Serve) -> None:
    nowhere = circle.settings.store.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    away = circle.settings.model_copy(update={"store": StoreSettings.model_validate(nowhere.model_dump())})
    with serve(build_recommender(away, CollectorRegistry())) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        alone = client.post("/v1/recommend", json={"user_id": "u1", "n": 10, "surface": "probe"}).json()
        assert alone["fallbacks"] == ["store_unavailable", "no_history"]
        assert len(alone["slate"]) == 10
        session = [{"item_id": "i0"}, {"item_id": "i3"}]
        body = {"user_id": "u1", "events": session, "n": 10, "surface": "probe"}
        helped = client.post("/v1/recommend", json=body).json()
        assert helped["fallbacks"] == ["store_unavailable"]
        assert {"i0", "i3"}.isdisjoint(item["item_id"] for item in helped["slate"])
        guest = client.post("/v1/session/recommend", json={"events": session, "n": 10}).json()
        assert guest["fallbacks"] == []
        assert client.get(f"/v1/explain/{'0' * 32}").status_code == 503
        evaluation = client.post("/v1/evaluations").json()["evaluation_id"]
        steps = {"steps": [{"user_id": "u1", "as_of": 1}]}
        assert client.post(f"/v1/evaluations/{evaluation}/recommend", json=steps).status_code == 503


def test_rules_from_a_file_hold_and_are_logged_and_a_change_holds_without_a_restart(
    circle: Circle, serve: Serve, tmp_path: Path
) -> None:
    file = tmp_path / "surfaces.yaml"
    file.write_text("surfaces: {home: {pins: [{item_id: i3, position: 1}]}}")
    serving = circle.settings.serving.model_copy(update={"surfaces_file": file})
    ruled = circle.settings.model_copy(update={"serving": serving})
    with serve(build_recommender(ruled, CollectorRegistry())) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)

        def ask() -> dict[str, Any]:
            return client.post("/v1/recommend", json={"user_id": "nobody", "n": 5}).json()

        first = ask()
        assert first["slate"][1]["item_id"] == "i3"
        file.write_text("surfaces: {home: {pins: [{item_id: i4, position: 0}]}}")
        wait_until(lambda: ask()["slate"][0]["item_id"] == "i4")
        assert ask()["surfaces_version"] != first["surfaces_version"]
    [logged] = wait_until(lambda: [one for one in impressions(circle.settings) if one.event_id == first["request_id"]])
    assert logged.surfaces_version == first["surfaces_version"]
    assert [(item.rules, item.fixed) for item in logged.slate] == [([], True), (["pin"], True), *[([], True)] * 3]


def test_an_item_outside_its_window_is_not_shown(circle: Circle, world: Any) -> None:
    item: ItemUpserted = world.items[0]
    later = world.now + 3_600_000
    for item_id, window in (("early", {"available_from": later}), ("late", {"available_until": world.now})):
        circle.send("/v1/items", item_id=item_id, categories=["windowed", *item.categories], **window)
    circle.send("/v1/items", item_id="inside", categories=["windowed"], available_until=later)
    wait_until(lambda: circle.shown(user_id="u6", n=5, categories=["windowed"]) == ["inside"], 5)
    assert circle.collector.delete("/v1/items/inside").status_code == 200
