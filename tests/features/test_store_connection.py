"""One connection that many reads share, against a real Valkey that is stopped, frozen and started again."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from redis.exceptions import RedisError, ResponseError

from features.config import StoreSettings, store_url
from features.store_connection import StoreConnection
from features.valkey import Valkey, start_valkey


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    running = start_valkey(tmp_path, StoreSettings(), os.environ)
    yield running
    running.stop()


def connections(valkey: Valkey) -> int:
    """How many clients the server has."""
    found = psutil.Process(valkey.process.pid).net_connections()
    return sum(connection.status == "ESTABLISHED" for connection in found)


def test_answers_reach_those_who_asked_though_an_error_stands_between(valkey: Valkey) -> None:
    async def ask() -> None:
        store = StoreConnection(store_url(valkey.settings))
        asked = [store.ask("ECHO", str(number)) for number in range(50)]
        found = await asyncio.gather(*asked[:25], store.ask("HMGET", "only-a-key"), *asked[25:], return_exceptions=True)
        assert isinstance(found[25], ResponseError)
        assert found[:25] + found[26:] == [str(number).encode() for number in range(50)]
        assert await store.ask("HMGET", "nobody", "a", "b") == [None, None]
        assert connections(valkey) == 1
        await store.close()

    asyncio.run(ask())


def test_a_store_that_went_away_is_an_error_until_it_is_back(valkey: Valkey, tmp_path: Path) -> None:
    async def ask() -> None:
        store = StoreConnection(store_url(valkey.settings))
        assert await store.ask("SET", "key", "kept") == b"OK"
        valkey.stop()
        with pytest.raises(RedisError):
            await store.ask("GET", "key")
        again = start_valkey(tmp_path, StoreSettings(port=int(port)), os.environ)
        try:
            assert await store.ask("GET", "key") == b"kept"
        finally:
            await store.close()
            again.stop()

    port = store_url(valkey.settings).rpartition(":")[2].partition("/")[0]
    asyncio.run(ask())


def test_who_stops_waiting_for_a_frozen_store_leaves_its_connection_behind(valkey: Valkey) -> None:
    async def ask() -> None:
        store = StoreConnection(store_url(valkey.settings))
        await store.ask("SET", "key", "kept")
        os.kill(valkey.process.pid, signal.SIGSTOP)
        try:
            waits_on = asyncio.create_task(store.ask("GET", "key"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await store.ask("GET", "key")
        finally:
            os.kill(valkey.process.pid, signal.SIGCONT)
        assert await store.ask("GET", "key") == b"kept"
        assert await waits_on == b"kept"  # who waited longer got the answer over the old connection
        await store.close()

    asyncio.run(ask())
