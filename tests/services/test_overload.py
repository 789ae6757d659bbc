"""Too many requests at once: slates get cheaper first, and only then are requests refused."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from recommender_in_process import InProcess, in_process

from services.recommend.surfaces import BUILT_IN_RULES, Quota, Rules, in_force
from services.settings_serving import ServingSettings

FIRST, MOST = 3, 6
CHEAP = in_force(
    BUILT_IN_RULES | {"home": Rules(overload="cheap"), "cheap": Rules(sources=(Quota("popular", 50),))}, {}
)


@pytest.fixture
def one(world: Any, artifact: tuple[Path, str]) -> Iterator[InProcess]:
    with in_process(world, artifact, ServingSettings(overload_in_flight=FIRST, max_in_flight=MOST)) as one:
        yield one


def together(one: InProcess, count: int, path: str = "/v1/recommend", **body: Any) -> list[httpx.Response]:
    """The answers to requests that are all in progress before the first is answered."""

    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(one.front)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await asyncio.gather(*(client.post(path, json=body) for _ in range(count)))

    return asyncio.run(ask())


def test_requests_beyond_the_first_threshold_are_answered_cheaper_and_beyond_the_second_refused(
    one: InProcess,
) -> None:
    answers = together(one, MOST + 2, user_id="u1", n=10, surface="probe")
    assert [answer.status_code for answer in answers] == [200] * MOST + [429] * 2
    bodies = [answer.json() for answer in answers[:MOST]]
    assert [body["fallbacks"] for body in bodies] == [[]] * FIRST + [["overload"]] * (MOST - FIRST)
    assert [len(body["slate"]) for body in bodies] == [10] * MOST
    ranked, retrieved = bodies[0]["slate"], bodies[-1]["slate"]
    assert ranked != retrieved
    assert [item["score"] for item in retrieved] == sorted((item["score"] for item in retrieved), reverse=True)
    assert {item["source"] for item in retrieved} == {"sequence"}  # the first source's own order, best first
    logged = {impression.request_id: impression.fallbacks for impression in one.log.impressions}
    assert logged == {body["request_id"]: body["fallbacks"] for body in bodies}
    assert together(one, 1, user_id="u1", n=10)[0].json()["fallbacks"] == []  # and it is over with the crowd


def test_a_surface_may_name_a_cheaper_one_and_stays_itself(one: InProcess) -> None:
    one.surfaces = CHEAP
    bodies = [answer.json() for answer in together(one, FIRST + 1, user_id="u1", n=10)]
    assert [body["fallbacks"] for body in bodies] == [[]] * FIRST + [["overload"]]
    assert {body["surface"] for body in bodies} == {"home"}
    assert {item["source"] for item in bodies[-1]["slate"]} == {"popular"}
    assert {item["source"] for item in bodies[0]["slate"]} > {"popular"} or "sequence" in {
        item["source"] for item in bodies[0]["slate"]
    }
    assert {impression.surface for impression in one.log.impressions} == {"home"}
    assert {impression.surfaces_version for impression in one.log.impressions} == {CHEAP["home"].version}


def test_the_parts_of_a_batch_get_cheaper_with_it(one: InProcess) -> None:
    answers = together(one, FIRST + 1, "/v1/recommend/batch", requests=[{"user_id": "u1"}, {"user_id": "u2"}])
    last = answers[-1].json()["results"]
    assert [result["answer"]["fallbacks"] for result in last] == [["overload"]] * 2
