"""Whatever bytes come, the collector answers with a problem or results, and holds no more than its limits say."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from services.api.front import Front
from services.collector import build_collector
from services.config import Settings
from streaming.config import KafkaSettings

NOW = time.time_ns() // 1_000_000
PARTS: dict[str, dict[str, Any]] = {
    "/v1/events": {"user_id": "u", "item_id": "i", "kind": "rating", "value": 4.5, "happened_at": NOW, "position": 3},
    "/v1/items": {"item_id": "i", "title": "t", "categories": ["a"], "attributes": {"a": 1, "b": True, "c": "d"}},
    "/v1/users": {"user_id": "u", "attributes": {"age": 30}},
    "/v1/identities": {"session_id": "s", "user_id": "u"},
}
JSON, NDJSON = "application/json", "application/x-ndjson"
REFUSED = {400, 413, 415, 422}
LIMIT = 100_000


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Front:
    """A collector's front that no broker stands behind: what is well-formed is refused with 503, not kept."""
    home = tmp_path_factory.mktemp("fuzz")
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:1", erasure_key=SecretStr("k" * 32))
    settings = Settings(namespace="fuzztest", home=home, kafka=kafka)
    serving = settings.serving.model_copy(update={"event_spool_mb": 0, "max_body_bytes": LIMIT})
    front = Front(None)  # type: ignore[arg-type]  # nothing behind it is asked
    front.open(build_collector(settings.model_copy(update={"serving": serving}), CollectorRegistry()))
    return front


def post(front: Front, path: str, content: bytes | AsyncIterator[bytes], media_type: str) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://127.0.0.1") as client:
            return await client.post(path, content=content, headers={"content-type": media_type})

    return asyncio.run(send())


def check(answer: httpx.Response, *, valid_parts: bool = True) -> None:
    assert answer.status_code in (REFUSED | {503} if valid_parts else REFUSED), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, bytes, str]:
    """A path, a body that once was right, and how it is declared."""
    path = draw(st.sampled_from(sorted(PARTS)))
    parts = []
    for _ in range(draw(st.integers(0, 4))):
        part = dict(PARTS[path])
        for name in draw(st.lists(st.sampled_from([*part, "event_id", "more"]), max_size=3)):
            part[name] = draw(junk)
        parts.append(json.dumps(part).encode())
    media_type = draw(st.sampled_from([JSON, NDJSON]))
    plural = path.removeprefix("/v1/").encode()
    data = b"\n".join(parts) if media_type == NDJSON else b'{"%s": [%s]}' % (plural, b", ".join(parts))
    for _ in range(draw(st.integers(0, 3))):
        first, last = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
        put = draw(st.sampled_from([b"", data[first:last] * 2, b"\n", b"[", b'"', b"\xff", b"\x00", b"1e999", b"{}"]))
        data = data[:first] + put + data[last:]
    return path, data, media_type


@given(body=bodies())
def test_a_damaged_body_is_answered_with_a_problem_and_never_with_500(
    front: Front, body: tuple[str, bytes, str]
) -> None:
    check(post(front, *body))


@given(data=st.binary(max_size=2_000), media_type=st.sampled_from([JSON, NDJSON, "text/plain", "", "\x7f"]))
def test_bytes_of_any_kind_are_refused(front: Front, data: bytes, media_type: str) -> None:
    check(post(front, "/v1/events", data, media_type), valid_parts=False)


@pytest.mark.parametrize("media_type", [JSON, NDJSON])
@pytest.mark.parametrize(
    "data",
    [
        b"[" * (LIMIT - 1),
        b'{"events": ' * (LIMIT // 12),
        b'{"events": [' + b"[" * (LIMIT - 20),
        b"\n" * LIMIT,
        b"{}\n" * (LIMIT // 3),
        b"9" * LIMIT,
        b'{"' + b"x" * (LIMIT - 10) + b'": 1}',
        b'{"user_id": "' + b"\\u0000" * (LIMIT // 6 - 10) + b'"}',
    ],
    ids=["arrays", "objects", "events", "blank", "lines", "number", "name", "escapes"],
)
def test_bodies_made_to_hurt_are_refused_and_take_no_more_than_a_few_megabytes(
    front: Front, data: bytes, media_type: str
) -> None:
    tracemalloc.start()
    answer = post(front, "/v1/events", data, media_type)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    check(answer, valid_parts=False)
    assert peak < 60 * LIMIT


def test_a_body_that_never_ends_is_refused_with_413_and_is_not_kept(front: Front) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1_000_000_000:
            sent += 65_536
            yield bytes(65_536)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/events",
        "raw_path": b"/v1/events",
        "headers": [(b"content-type", b"application/json")],
        "server": ("127.0.0.1", 80),
    }
    chunks = endless()
    answers: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": await anext(chunks), "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        answers.append(message)

    tracemalloc.start()
    asyncio.run(front(scope, receive, send))  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answers[0]["status"] == 413
    assert sent < 100_000_000
    assert peak < 3_000_000
