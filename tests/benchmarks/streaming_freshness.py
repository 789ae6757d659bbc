"""`freshness`: from accepted clicks to another slate, from a new item to its being recommended; under load."""

import asyncio
import json
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop
from rich.table import Table
from serving_load import Connection, Load, connect, percentiles, request
from serving_send import PROGRAM
from serving_stack import fill
from serving_world import World, WorldSpec, make_world
from streaming_stack import Parts, stores

from models.config import ModelSettings
from services.recommend.surfaces import PROBE

AIMS_MS = {"click": 250.0, "new item": 1_000.0, "new user": 250.0}
"""The p99 that is aimed at."""

_ITEMS, _USERS, _EVENTS = 20_000, 5_000, 50
_CLICKS_PER_S, _FEW = 5.0, 200
_LIMIT_S = 20.0
_WARMING = 20
_LOOK_S = 0.02  # between two looks: asked without a pause, the probes alone would saturate a core


def run(home: Path, options: Namespace) -> dict[str, Any]:
    """Let users click, items appear and users arrive, each due by a Poisson process whatever the system does."""
    with stores(home) as parts:
        world = _started(parts, home, options)
        probes = Probes(parts, world, np.random.default_rng(options.seed))
        few = min(_FEW, options.clicks)
        with _load_beside(parts, options.rate):
            report = uvloop.run(probes.all({"click": options.clicks, "new item": few, "new user": few}))
    failed = [f"{name}: {found['missing']} were never seen" for name, found in report.items() if found["missing"]]
    return {"probes": report, "rate": options.rate, "failed": failed}


def table(report: dict[str, Any]) -> Table:
    """Return the times."""
    found = Table(
        title=f"Freshness in ms, looked at every {1000 * _LOOK_S:.0f}; beside it "
        f"{report['rate']:.0f} recommendations/s and as many clicks/s of others"
    )
    for name in ("what", "times", "p50", "p99", "p99.9", "most", "aim p99", "rest of the slate changed too"):
        found.add_column(name)
    for name, row in report["probes"].items():
        ms = row["ms"]
        found.add_row(
            name,
            str(row["times"]),
            *(f"{ms[key]:.0f}" for key in ("p50", "p99", "p99.9", "p100")),
            f"{AIMS_MS[name]:.0f}",
            f"{row['reordered']:.2f}" if row["reordered"] is not None else "-",
        )
    return found


class Probes:
    """Asks and clicks as users whom nobody else is; users of the load are the other half of the world's."""

    def __init__(self, parts: Parts, world: World, rng: np.random.Generator) -> None:
        serving = parts.settings.serving
        assert serving.recommender_port is not None
        assert serving.collector_port is not None
        self._recommender, self._collector = serving.recommender_port, serving.collector_port
        self._world, self._rng = world, rng
        self._reordered: list[bool] = []

    async def all(self, counts: dict[str, int]) -> dict[str, Any]:
        """Run the probes one kind after another, once the updater has its partitions and everything was used."""
        for number in range(_WARMING):
            await self._click(_USERS // 2 - 1 - number)
        kinds: dict[str, Callable[[int], Awaitable[float | None]]] = {
            "click": self._click,
            "new item": self._new_item,
            "new user": self._new_user,
        }
        return {name: await self._poisson(kinds[name], count) for name, count in counts.items()}

    async def _poisson(self, probe: Callable[[int], Awaitable[float | None]], count: int) -> dict[str, Any]:
        self._reordered = []
        due, tasks = time.perf_counter(), []
        for number in range(count):
            due += self._rng.exponential(1 / _CLICKS_PER_S)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.ensure_future(probe(number)))
        found = await asyncio.gather(*tasks)
        seen = [ms for ms in found if ms is not None]
        reordered = sum(self._reordered) / len(self._reordered) if self._reordered else None
        return {"times": count, "missing": count - len(seen), "ms": percentiles(seen), "reordered": reordered}

    async def _click(self, number: int) -> float | None:
        """Let a known user click once."""
        return await self._after_clicks(self._world.user_id(_USERS // 2 + number % (_USERS // 2)), 1)

    async def _new_user(self, number: int) -> float | None:
        """Let a user nobody knows click three times."""
        return await self._after_clicks(f"arrived-{number}", 3)

    async def _after_clicks(self, user: str, count: int) -> float | None:
        """Click the first items of a slate; ms from the acceptance until a slate without them is answered."""
        recommender, collector = await connect(self._recommender), await connect(self._collector)
        ask = {"user_id": user, "n": 20, "surface": PROBE}
        before = await self._slate(recommender, ask)
        clicks = [{**_click(user, item), "surface": PROBE} for item in before[:count]]
        await self._post(collector, "/v1/events", {"events": clicks})
        accepted = time.perf_counter()
        after: list[str] = []

        def changed(slate: list[str]) -> bool:
            after[:] = slate
            return not {*before[:count]} & {*slate}

        ms = await self._until(recommender, ask, changed, accepted)
        self._reordered.append(after[: len(before) - count] != before[count:])
        return ms

    async def _new_item(self, number: int) -> float | None:
        """Add an item of a category of its own; ms until it is recommended."""
        recommender, collector = await connect(self._recommender), await connect(self._collector)
        item = {"item_id": f"new-{number}", "categories": [f"new-{number}"], "attributes": {"price": 1.0}}
        await self._post(collector, "/v1/items", item)
        ask = {"user_id": self._world.user_id(number), "n": 5, "categories": [f"new-{number}"]}
        return await self._until(recommender, ask, lambda slate: slate == [f"new-{number}"], time.perf_counter())

    async def _until(
        self, connection: Connection, ask: dict[str, Any], wanted: Callable[[list[str]], bool], since: float
    ) -> float | None:
        while time.perf_counter() < since + _LIMIT_S:
            if wanted(await self._slate(connection, ask)):
                return 1000 * (time.perf_counter() - since)
            await asyncio.sleep(_LOOK_S)
        return None

    async def _slate(self, connection: Connection, ask: dict[str, Any]) -> list[str]:
        answer = await self._post(connection, "/v1/recommend", ask)
        return [item["item_id"] for item in answer["slate"]]

    async def _post(self, connection: Connection, path: str, body: dict[str, Any]) -> Any:
        status, answer = await connection.ask(request(path, json.dumps(body).encode()))
        if status != 200:
            raise RuntimeError(f"{path} answered {status}: {answer[:300]!r}")
        return msgspec.json.decode(answer)


def _click(user: str, item: str) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, "kind": "click"}


def _started(parts: Parts, home: Path, options: Namespace) -> World:
    """Fill the stores and start the services."""
    world = make_world(WorldSpec(_ITEMS, _USERS, _EVENTS, options.seed, time.time_ns() // 1_000_000))
    model: Any = import_module("serving_model")
    version = model.write_model(home / "artifact", world, ModelSettings())
    fill(parts.settings, world, home / "artifact", version, 20_000)
    serving = parts.settings.serving
    parts.start("updater", "update-history")
    parts.start("collector", "serve", "collector", port=serving.collector_port)
    parts.start("recommender", "serve", "recommender", port=serving.recommender_port)
    return world


@contextmanager
def _load_beside(parts: Parts, rate: float) -> Any:
    """Send recommendations and clicks of other users, in open loops, while the block runs."""
    serving = parts.settings.serving
    common: dict[str, Any] = {
        "users": _USERS // 2,
        "connections": 8,
        "seconds": 86_400.0,
        "rate": rate,
        "before": '{"user_id":"user-',
    }
    loads = [
        Load(port=serving.recommender_port, path="/v1/recommend", after='","n":20}', **common),
        Load(
            port=serving.collector_port,
            path="/v1/events",
            after='","item_id":"item-0000007","kind":"view"}',
            **common,
        ),
    ]
    running = []
    try:
        for load in loads:
            sender = subprocess.Popen([sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            running.append(sender)
            assert sender.stdin is not None
            sender.stdin.write(msgspec.json.encode(load))
            sender.stdin.close()
        yield
    finally:
        for sender in running:
            sender.terminate()
            sender.wait()
