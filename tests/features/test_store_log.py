"""The store's own log after an erasure: written anew, and the receipt says what became of it."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from features.config import StoreSettings, store_url
from features.online_erasure import rewrite_log
from features.valkey import Valkey, start_valkey

SECRET = b"somebody's click"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of this test's own."""
    running = start_valkey(tmp_path, StoreSettings(), os.environ)
    yield running
    running.stop()


@pytest.fixture
def client(server: Valkey) -> Iterator[Any]:
    connected = Redis.from_url(store_url(server.settings))
    yield connected
    connected.close()


def holds_the_secret(home: Path) -> bool:
    return any(SECRET in path.read_bytes() for path in (home / "valkey").rglob("*") if path.is_file())


def test_what_was_deleted_is_in_no_file_afterwards(server: Valkey, client: Any, tmp_path: Path) -> None:
    client.set("user", SECRET)
    client.delete("user")
    assert holds_the_secret(tmp_path)
    assert rewrite_log(server.settings) == "append-only file rewritten"
    assert not holds_the_secret(tmp_path)


def test_a_rewrite_that_was_under_way_already_is_not_taken_for_ours(
    server: Valkey, client: Any, tmp_path: Path
) -> None:
    client.set("user", SECRET)
    client.config_set("rdb-key-save-delay", 20_000)  # microseconds: the rewrite takes seconds
    client.mset({f"k{number}": b"" for number in range(100)})
    client.bgrewriteaof()
    assert client.info("persistence")["aof_rewrite_in_progress"]
    client.delete("user")
    client.config_set("rdb-key-save-delay", 0)
    assert rewrite_log(server.settings) == "append-only file rewritten"
    assert not holds_the_secret(tmp_path)


def test_a_rewrite_that_failed_is_not_called_done(server: Valkey, client: Any) -> None:
    for number in range(20):
        client.set(f"k{number}", os.urandom(100_000))
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
    assert "could not rewrite its append-only file" in rewrite_log(server.settings)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert rewrite_log(server.settings) == "append-only file rewritten"
