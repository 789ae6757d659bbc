"""A load generator for one route, run as a process of its own so that its CPU is counted apart.

Takes a Load as JSON on standard input and prints a Heard as JSON. Closed loop: each connection asks again as soon as
it was answered. Open loop: requests fall due by a Poisson process whatever the server does, and an answer's time counts
from when its request was due, so a stall is seen by everything that was due meanwhile.
"""

import asyncio
import math
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

import msgspec
import numpy as np
import uvloop

_MOST_CONNECTIONS = 512


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What to send: `rate` in requests/s for an open loop, None for a closed one; ends after `seconds` or `requests`.

    A body is `before`, the number of one of `users` users in seven digits, and `after`.
    """

    port: int
    path: str
    before: str
    after: str
    users: int
    connections: int
    seconds: float
    rate: float | None = None
    requests: int | None = None
    seed: int = 1


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What came back: answers by status, wall ms by percentile, and how late the generator itself was, ms.

    `cpu_s` is the generator's own, `wall_s` from the first request to the last answer.
    """

    answers: dict[str, int]
    fallbacks: int
    wall_s: float
    cpu_s: float
    ms: dict[str, float]
    late_ms: dict[str, float]


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport: asyncio.WriteTransport = transport  # type: ignore[assignment]

    def connection_lost(self, error: Exception | None) -> None:
        """Let whoever waits for an answer know."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        """Read until an answer is whole."""
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0 or self._answer is None:
            return
        length = self._received.lower().find(b"content-length:", 0, head)
        size = int(self._received[length + 15 : self._received.find(b"\r\n", length)])
        if len(self._received) >= head + 4 + size:
            status, body = int(self._received[9:12]), bytes(self._received[head + 4 :])
            self._received.clear()
            self._answer.set_result((status, body))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and return its answer's status and body."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer


class Recorder:
    """Counts answers and keeps their times."""

    def __init__(self) -> None:
        self.answers: Counter[str] = Counter()
        self.fallbacks = 0
        self.ms: list[float] = []
        self.late_ms: list[float] = []

    def heard(self, status: int, body: bytes, since: float) -> None:
        """Record an answer to what was due at `since`, seconds of the performance counter."""
        self.ms.append(1000 * (time.perf_counter() - since))
        self.answers[str(status)] += 1
        self.fallbacks += b'"fallbacks":["' in body


async def generate(load: Load) -> Heard:
    """Send the load."""
    recorder = Recorder()
    requests = _requests(load)
    started, cpu = time.perf_counter(), time.process_time()
    await (_closed if load.rate is None else _open)(load, requests, recorder)
    return Heard(
        answers=dict(recorder.answers),
        fallbacks=recorder.fallbacks,
        wall_s=time.perf_counter() - started,
        cpu_s=time.process_time() - cpu,
        ms=percentiles(recorder.ms),
        late_ms=percentiles(recorder.late_ms),
    )


async def _closed(load: Load, requests: Iterator[bytes], recorder: Recorder) -> None:
    until = time.perf_counter() + load.seconds
    most = math.inf if load.requests is None else load.requests

    async def ask_on() -> None:
        connection = await connect(load.port)
        while time.perf_counter() < until and recorder.answers.total() < most:
            since = time.perf_counter()
            recorder.heard(*await connection.ask(next(requests)), since)

    await asyncio.gather(*(ask_on() for _ in range(load.connections)))


async def _open(load: Load, requests: Iterator[bytes], recorder: Recorder) -> None:
    rng = np.random.default_rng(load.seed)
    idle = deque([await connect(load.port) for _ in range(load.connections)])
    waiting: set[asyncio.Task[None]] = set()
    due = started = time.perf_counter()
    while (due := due + rng.exponential(1 / (load.rate or 1.0))) < started + load.seconds:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        recorder.late_ms.append(1000 * max(0.0, time.perf_counter() - due))
        task = asyncio.create_task(_ask_once(load.port, idle, next(requests), due, recorder, lambda: len(waiting)))
        waiting.add(task)
        task.add_done_callback(waiting.discard)
    await asyncio.gather(*waiting)


async def _ask_once(
    port: int,
    idle: deque[Connection],
    asked: bytes,
    due: float,
    recorder: Recorder,
    in_flight: Callable[[], int],
) -> None:
    if in_flight() > _MOST_CONNECTIONS:
        recorder.heard(0, b"", due)  # the server is so far behind that more would only wait
        return
    connection = idle.popleft() if idle else await connect(port)
    recorder.heard(*await connection.ask(asked), due)
    idle.append(connection)


def _requests(load: Load) -> Iterator[bytes]:
    rng = np.random.default_rng(load.seed)
    while True:
        for user in rng.integers(0, load.users, 10_000).tolist():
            yield request(load.path, f"{load.before}{user:07d}{load.after}".encode())


def request(path: str, body: bytes) -> bytes:
    """Return a POST of JSON as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def connect(port: int) -> Connection:
    """Return a connection to a server on loopback."""
    _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", port)
    return connection


def percentiles(values: list[float]) -> dict[str, float]:
    """Return the median, the tail and the most of values; nothing of none."""
    if not values:
        return {}
    return {f"p{q:g}": float(np.percentile(values, q)) for q in (50, 99, 99.9, 100)}


if __name__ == "__main__":
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Load)
    sys.stdout.write(msgspec.json.encode(uvloop.run(generate(asked))).decode() + "\n")
