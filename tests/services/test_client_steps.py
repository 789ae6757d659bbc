"""What the client does with answers, good and bad, without a network."""

import logging
import random
import subprocess
import sys
from collections.abc import Sequence

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.client.buffer import Buffer
from services.client.calls import complete, recommend, send_events
from services.client.errors import BufferFull, Refused, Unavailable
from services.client.exchange import Request, Steps, Wait
from services.client.retry import Retry, asked_wait_s
from services.client.synchronous import tell_rejected
from services.collect.bodies import EventBody, Result
from services.recommend.bodies import RecommendRequest
from streaming.events import Kind

RETRY = Retry(tries=3, first_wait_s=0.1, longest_wait_s=1.0, draw=random.Random(7))  # noqa: S311 - jitter


def click(number: int) -> EventBody:
    return EventBody(item_id="i", kind=Kind.CLICK, user_id="u", event_id=f"e{number}", happened_at=1)


def answer(status: int, body: object = None, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, content=msgspec.json.encode(body or {}), headers=named)


def accepted(*statuses: str) -> httpx.Response:
    return answer(200, {"accepted": len(statuses), "results": [{"status": status} for status in statuses]})


def ids(step: object) -> list[str]:
    assert isinstance(step, Request)
    return [msgspec.json.decode(line)["event_id"] for line in step.content.split(b"\n")]


def waited(step: object) -> float:
    assert isinstance(step, Wait)
    return step.seconds


def finished(steps: Steps[list[Result]], reply: httpx.Response) -> list[Result]:
    with pytest.raises(StopIteration) as end:
        steps.send(reply)
    results: list[Result] = end.value.value
    return results


def test_only_what_is_not_durable_yet_is_sent_again_after_the_wait_that_was_asked_for() -> None:
    steps = send_events([click(number) for number in range(4)], RETRY)
    assert ids(next(steps)) == ["e0", "e1", "e2", "e3"]
    results = [{"status": status} for status in ("spooled", "not_durable", "rejected", "not_durable")]
    wait = waited(steps.send(answer(503, {"detail": "full", "results": results}, retry_after="2")))
    assert 2.05 <= wait <= 2.1
    assert ids(steps.send(None)) == ["e1", "e3"]
    done = finished(steps, accepted("accepted", "duplicate"))
    assert [result.status for result in done] == ["spooled", "accepted", "rejected", "duplicate"]


@pytest.mark.parametrize("failure", [429, 502, 503, 504, httpx.ConnectError("refused"), httpx.DecodingError("gzip")])
def test_a_failure_that_may_pass_is_tried_again_with_the_same_ids_until_no_tries_are_left(
    failure: int | httpx.RequestError,
) -> None:
    event = EventBody(item_id="i", kind=Kind.CLICK, user_id="u")  # without an id and a time
    steps = send_events([event], RETRY)
    first = next(steps)
    assert isinstance(first, Request)
    sent = msgspec.json.decode(first.content)
    assert sent["event_id"]
    assert sent["happened_at"]
    for _ in range(2):
        assert waited(steps.send(answer(failure) if isinstance(failure, int) else failure)) <= 0.2
        again = steps.send(None)
        assert isinstance(again, Request)
        assert again.content == first.content
    with pytest.raises(Unavailable, match="3 tries") as gone:
        steps.send(answer(failure) if isinstance(failure, int) else failure)
    assert gone.value.results == [None]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 415, 500])
def test_what_another_try_would_not_change_is_raised_at_once_with_what_the_service_said(status: int) -> None:
    for steps in (send_events([click(1)], RETRY), recommend(RecommendRequest(user_id="u"), RETRY)):
        next(steps)
        with pytest.raises(Refused, match="said so") as refused:
            steps.send(answer(status, {"type": "urn:x:no", "title": "No", "detail": "said so"}))
        problem = refused.value.problem
        assert (problem.type, problem.title, problem.status) == ("urn:x:no", "No", status)


def test_a_refusal_that_is_no_problem_has_the_type_and_title_of_rfc_9457() -> None:
    steps = send_events([click(1)], RETRY)
    next(steps)
    with pytest.raises(Refused) as refused:
        steps.send(httpx.Response(403, content=b"<html>"))
    problem = refused.value.problem
    assert (problem.type, problem.title, problem.detail) == ("about:blank", "Forbidden", "Forbidden")


def test_when_every_event_is_refused_each_has_its_own_reason() -> None:
    steps = send_events([click(1), click(2)], RETRY)
    next(steps)
    errors = [{"field": f"events[{number}].kind", "detail": f"no {number}"} for number in range(2)]
    done = finished(steps, answer(422, {"detail": "", "errors": errors}))
    assert [(result.status, result.errors[0].detail) for result in done] == [("rejected", "no 0"), ("rejected", "no 1")]


def test_many_events_go_in_bodies_below_the_services_limits_and_in_order() -> None:
    events = [msgspec.structs.replace(click(number), surface="s" * 200) for number in range(3_500)]
    steps = send_events(events, RETRY)
    step: object = next(steps)
    seen: list[str] = []
    while isinstance(step, Request):
        assert len(step.content) < 1_000_000
        assert len(ids(step)) <= 1_000
        seen += ids(step)
        try:
            step = steps.send(accepted(*["accepted"] * len(ids(step))))
        except StopIteration:
            break
    assert seen == [event.event_id for event in events]


def test_an_error_page_of_a_proxy_is_no_crash() -> None:
    steps = send_events([click(1)], RETRY)
    next(steps)
    page = httpx.Response(502, content=b"<html>\xff bad gateway", headers={"retry-after": "Fri, 01 Jan 2100 00:00 GMT"})
    assert waited(steps.send(page)) <= 0.2


ODD = [
    httpx.Response(200, content=b"<html>sign in"),
    httpx.Response(200, content=b'"\xff"'),
    httpx.Response(200, content=b"[" * 100_000),
    answer(200, []),
    accepted("accepted"),
    accepted("accepted", "accepted", "accepted"),
    accepted("accepted", "teleported"),
    answer(503, {"results": [{"status": "teleported"}, {"status": "accepted"}]}),
]


@pytest.mark.parametrize("odd", ODD)
def test_an_answer_that_cannot_be_read_settles_nothing_and_is_tried_again(odd: httpx.Response) -> None:
    steps = send_events([click(1), click(2)], RETRY)
    next(steps)
    assert waited(steps.send(odd)) <= 0.2
    assert ids(steps.send(None)) == ["e1", "e2"]
    assert waited(steps.send(odd)) <= 0.2
    steps.send(None)
    with pytest.raises(Unavailable, match="3 tries") as gone:
        steps.send(odd)
    assert gone.value.results == [None, None]


def test_a_slate_that_cannot_be_read_is_asked_for_again() -> None:
    steps = recommend(RecommendRequest(user_id="u"), RETRY)
    first = next(steps)
    for page in (httpx.Response(200, content=b"<html>sign in"), answer(200, {"colour": "red"})):
        assert waited(steps.send(page)) <= 0.2
        assert steps.send(None) == first
    with pytest.raises(Unavailable, match="200, with a body that is no answer of the service"):
        steps.send(answer(200, []))


def test_what_the_application_raises_about_a_rejected_event_is_logged_and_the_next_one_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = []

    def rejected(event: EventBody, result: Result) -> None:
        told.append(event.event_id)
        raise LookupError("no such table")

    results = [Result(status="rejected"), Result(status="accepted"), None, Result(status="rejected")]
    with caplog.at_level(logging.ERROR):
        tell_rejected(rejected, [click(number) for number in range(4)], results)
    assert told == ["e0", "e3"]
    assert caplog.text.count("LookupError: no such table") == 2


@given(st.integers(1, 200), st.floats(0, 1_000), st.integers(0, 2**32))
def test_a_wait_is_between_half_and_all_of_its_step_and_what_was_asked_comes_on_top(
    failures: int, asked: float, seed: int
) -> None:
    retry = Retry(draw=random.Random(seed))  # noqa: S311 - jitter
    most = min(retry.longest_wait_s, retry.first_wait_s * 2.0 ** min(failures - 1, 30))
    wait = retry.wait_s(failures, asked) - min(asked, 60.0)
    assert most / 2 - 1e-9 <= wait <= most + 1e-9


@pytest.mark.parametrize(("header", "seconds"), [(None, 0), ("3", 3), ("-3", 0), ("soon", 0), ("³", 0)])
def test_a_retry_after_that_is_no_number_asks_for_nothing(header: str | None, seconds: float) -> None:
    assert asked_wait_s(header) == seconds


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=6), max_size=12))
def test_the_buffer_keeps_order_and_drops_only_what_has_a_result(rounds: Sequence[Sequence[bool]]) -> None:
    buffer = Buffer(100)
    expected: list[EventBody] = []
    number = 0
    for settled in rounds:
        for _ in settled:
            buffer.add(click(number))
            expected.append(click(number))
            number += 1
        sent = buffer.first()
        results = [Result(status="accepted") if ok else None for ok in [*settled, *[False] * len(sent)][: len(sent)]]
        buffer.settle(sent, results)
        expected = [event for event, result in zip(sent, results, strict=True) if result is None]
        assert buffer.take() == expected


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.booleans(), max_size=6)), max_size=12), st.integers(0, 20))
def test_the_buffer_tells_whether_what_was_tracked_before_a_moment_still_waits(
    rounds: Sequence[tuple[int, Sequence[bool]]], moment: int
) -> None:
    buffer = Buffer(100)
    waiting: list[int] = []
    for added, settled in rounds:
        for _ in range(added):
            waiting.append(buffer.tracked)
            buffer.add(click(buffer.tracked))
        sent = buffer.first()
        answers = [*settled, *[False] * len(sent)][: len(sent)]
        buffer.settle(sent, [Result(status="accepted") if ok else None for ok in answers])
        waiting = [number for number, ok in zip(waiting, answers, strict=True) if not ok]
        assert buffer.holds(moment) == any(number < moment for number in waiting)


def test_a_full_buffer_says_so() -> None:
    buffer = Buffer(1)
    buffer.add(click(1))
    with pytest.raises(BufferFull, match="1 events wait"):
        buffer.add(click(2))


def test_an_id_and_a_time_of_the_application_are_kept() -> None:
    assert complete(click(1)) == click(1)


def test_the_client_is_light_to_import() -> None:
    code = "import sys, services.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "httpx" in loaded
    heavy = {"kafka", "torch", "numpy", "bentoml", "pyspark", "feast", "pyarrow", "starlette", "prometheus_client"}
    assert not heavy & set(loaded)
