"""The client against real collectors, one that is killed included."""

import asyncio
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from environ import without_settings
from prometheus_client import CollectorRegistry
from topic_records import records
from waiting import wait_until

from services.client import (
    AsyncClient,
    Buffering,
    Client,
    ClientError,
    EventBody,
    IdentityBody,
    ItemBody,
    Retry,
    Services,
    Undelivered,
    UserBody,
)
from services.collect.bodies import Result
from services.collector import build_collector
from services.config import Settings
from services.environment import settings_environ
from streaming.codec import decode
from streaming.events import Kind

QUICK = Retry(first_wait_s=0.02, longest_wait_s=0.2)


def click(number: int, **changes: Any) -> EventBody:
    return EventBody(**{"item_id": f"i{number}", "kind": Kind.CLICK, "user_id": "u1", **changes})


@pytest.fixture
def collector(settings: Settings, serve: Callable[[Any], AbstractContextManager[httpx.Client]]) -> Iterator[Services]:
    with serve(build_collector(settings, CollectorRegistry())) as http:
        wait_until(lambda: all(http.get("/readyz").json()["checks"].values()))
        yield Services(collector=str(http.base_url))


def ids(settings: Settings, topic: str) -> list[str]:
    return [decode(record.value).event_id for record in records(settings.kafka, topic) if record.value is not None]


def test_everything_an_application_sends_is_in_kafka_when_the_call_returns(
    collector: Services, settings: Settings
) -> None:
    topics = settings.topics
    with Client(collector) as client:
        sent = [
            (topics.interactions, client.send_events([click(1), click(2)])),
            (topics.items, client.send_items([ItemBody(item_id="i1", title="One")])),
            (topics.users, client.send_users([UserBody(user_id="u1")])),
            (topics.identities, client.send_identities([IdentityBody(session_id="s", user_id="u1")])),
        ]
        removed = client.remove_item("a/b ü")
    for topic, results in sent:
        assert [result.status for result in results] == ["accepted"] * len(results)
        assert ids(settings, topic)[: len(results)] == [result.event_id for result in results]
    assert removed.results[0].event_id in ids(settings, topics.items)


def test_an_event_that_is_sent_twice_is_a_duplicate_and_one_that_is_bad_is_rejected(collector: Services) -> None:
    with Client(collector) as client:
        results = client.send_events([click(1, event_id="e1"), click(2, user_id=None), click(1, event_id="e1")])
    assert [result.status for result in results] == ["accepted", "rejected", "duplicate"]
    assert results[1].errors[0].field == "events[1].user_id"


def test_tracked_events_are_sent_in_the_background_and_all_of_them_when_the_client_closes(
    collector: Services, settings: Settings
) -> None:
    rejected: list[tuple[EventBody, Result]] = []
    with Client(
        collector, buffering=Buffering(linger_s=0.01), rejected=lambda event, result: rejected.append((event, result))
    ) as client:
        first = [client.track(click(number)) for number in range(10)]
        wait_until(lambda: ids(settings, settings.topics.interactions) == first)
        bad = client.track(click(1, user_id=None))
        rest = [client.track(click(number)) for number in range(2_500)]
    assert ids(settings, settings.topics.interactions) == [*first, *rest]
    assert [(event.event_id, result.status) for event, result in rejected] == [(bad, "rejected")]
    with pytest.raises(ClientError, match="closed"):
        client.track(click(1))


def test_an_asynchronous_client_does_the_same(collector: Services, settings: Settings) -> None:
    async def run() -> list[str]:
        async with AsyncClient(collector, buffering=Buffering(linger_s=0.01)) as client:
            first = [client.track(click(number)) for number in range(10)]
            assert await client.flush(20)
            results = await client.send_events([click(11)])
            rest = [client.track(click(number)) for number in range(2_500)]
        return [*first, str(results[0].event_id), *rest]

    sent = asyncio.run(run())
    assert ids(settings, settings.topics.interactions) == sent


@contextmanager
def proxy(collector: Services, odd: Sequence[tuple[str, bytes]] = ()) -> Iterator[tuple[Services, list[int]]]:
    """A proxy in front of the collector, which gives the first requests odd answers of its own, each an encoding and a
    body with status 200; yields where it is and how many events each body had."""
    left, bodies = deque(odd), []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            bodies.append(content.count(b"\n") + 1)
            if left:
                status, (encoding, body) = 200, left.popleft()
            else:
                headers = {"content-type": self.headers["content-type"]}
                reply = httpx.post(collector.collector + self.path, content=content, headers=headers)
                status, encoding, body = reply.status_code, "identity", reply.content
            self.send_response(status)
            self.send_header("content-encoding", encoding)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the standard library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Services(collector=f"http://127.0.0.1:{server.server_port}"), bodies
        finally:
            server.shutdown()
            thread.join()


ODD = [
    ("identity", b"<html>sign in"),
    ("identity", b'{"accepted": 0, "results": []}'),
    ("identity", b'{"accepted": 1, "results": [{"status": "teleported"}]}'),
    ("gzip", b"no gzip"),
]


def fail(event: EventBody, result: Result) -> None:
    raise LookupError(event.event_id)


def test_neither_odd_answers_nor_a_callback_that_raises_end_the_sending(
    collector: Services, settings: Settings
) -> None:
    with proxy(collector, ODD) as (way, _), Client(way, QUICK, Buffering(linger_s=0.01), rejected=fail) as client:
        first = client.track(click(1))
        assert client.flush(20)
        bad = client.track(click(2, user_id=None))
        assert client.flush(20)
        last = client.track(click(3))
    assert ids(settings, settings.topics.interactions) == [first, last]

    async def run(way: Services) -> list[str]:
        async with AsyncClient(way, QUICK, Buffering(linger_s=0.01), rejected=fail) as one:
            sent = [one.track(click(4))]
            assert await one.flush(20)
            one.track(click(5, user_id=None))
            assert await one.flush(20)
            return [*sent, one.track(click(6))]

    with proxy(collector, ODD) as (way, bodies):
        more = asyncio.run(run(way))
    assert bad not in more
    assert bodies[: len(ODD)] == [1] * len(ODD)
    assert ids(settings, settings.topics.interactions) == [first, last, *more]


def test_an_asynchronous_client_goes_on_sending_events_together_after_a_burst_and_after_a_flush(
    collector: Services,
) -> None:
    async def run(way: Services) -> None:
        settled = asyncio.Event()

        def rejected(event: EventBody, result: Result) -> None:
            settled.set()

        async with AsyncClient(way, buffering=Buffering(linger_s=600), rejected=rejected) as client:
            assert await client.flush(20)  # of nothing, which hurries nothing
            client.track(click(0, user_id=None))
            for number in range(1, 1_005):
                client.track(click(number))
            await settled.wait()
            for number in range(5):
                client.track(click(number))
            assert await client.flush(20)
            client.track(click(1))
            await client.send_events([click(2)])
            client.track(click(3))

    with proxy(collector) as (way, bodies):
        asyncio.run(run(way))
    assert bodies == [1_000, 10, 1, 2]


def test_a_program_that_ends_without_closing_has_sent_what_it_tracked(collector: Services, settings: Settings) -> None:
    code = (
        "from services.client import Client, EventBody, Services\n"
        "import sys\n"
        "client = Client(Services(collector=sys.argv[1]))\n"
        "for n in range(50): print(client.track(EventBody(item_id='i', kind='click', user_id='u')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, collector.collector], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert ids(settings, settings.topics.interactions) == done.stdout.split()


def test_what_no_collector_takes_is_handed_back(free_tcp_port: int) -> None:
    nowhere = Services(collector=f"http://127.0.0.1:{free_tcp_port}")
    client = Client(nowhere, QUICK, Buffering(close_s=0.3))
    sent = [client.track(click(number)) for number in range(3)]
    assert not client.flush(0.1)
    with pytest.raises(Undelivered) as left:
        client.close()
    assert [event.event_id for event in left.value.events] == sent
    client.close()

    async def run() -> None:
        one = AsyncClient(nowhere, QUICK, Buffering(close_s=0.3))
        again = [one.track(event) for event in left.value.events]
        assert not await one.flush(0.1)
        with pytest.raises(Undelivered) as still:
            await one.close()
        assert [event.event_id for event in still.value.events] == again == sent

    asyncio.run(run())


_COLLECTOR = """
import sys
sys.path[:0] = sys.argv[2:]
import uvicorn
from conftest import with_life
from prometheus_client import CollectorRegistry
from services.collector import build_collector
from services.config import load_settings
app = with_life(build_collector(load_settings(), CollectorRegistry()))
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_config=None)
"""


def start_collector(settings: Settings, port: int) -> subprocess.Popen[bytes]:
    environ = without_settings()
    here = Path(__file__).parent
    argv = [sys.executable, "-c", _COLLECTOR, str(port), str(here), str(here.parent)]
    return subprocess.Popen(argv, env={**environ, **settings_environ(settings)})


def test_nothing_is_lost_or_has_two_ids_when_the_collector_is_killed_under_a_client(
    settings: Settings, free_tcp_port: int
) -> None:
    process = start_collector(settings, free_tcp_port)
    try:
        with Client(
            Services(collector=f"http://127.0.0.1:{free_tcp_port}"), QUICK, Buffering(linger_s=0.01, close_s=60)
        ) as client:
            sent = [client.track(click(number)) for number in range(300)]
            wait_until(lambda: ids(settings, settings.topics.interactions), 60)
            process.send_signal(signal.SIGKILL)
            process.wait()
            sent += [client.track(click(number)) for number in range(300)]
            process = start_collector(settings, free_tcp_port)
            sent += [client.track(click(number)) for number in range(300)]
            assert client.flush(60)
        found = wait_until(
            lambda: (seen := ids(settings, settings.topics.interactions)) and set(seen) >= set(sent) and seen
        )
    finally:
        process.kill()
        process.wait()
    assert list(dict.fromkeys(found)) == sent  # once each and in order, for whoever counts ids
