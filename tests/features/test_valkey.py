import os
import socket
from pathlib import Path

import psutil
import pytest
import redis

from features.config import StoreSettings, store_url
from features.valkey import start_valkey
from streaming.embedded.ports import PortBusy


def test_what_was_written_is_still_there_after_a_restart(tmp_path: Path) -> None:
    first = start_valkey(tmp_path, StoreSettings(), os.environ)
    try:
        with redis.Redis.from_url(store_url(first.settings)) as client:
            client.hset("user", mapping={"history": b"\x00\xff"})
    finally:
        first.stop()
    second = start_valkey(tmp_path, StoreSettings(), os.environ)
    try:
        with redis.Redis.from_url(store_url(second.settings)) as client:
            assert client.hget("user", "history") == b"\x00\xff"
    finally:
        second.stop()


def test_it_listens_on_loopback_only_and_never_evicts(tmp_path: Path) -> None:
    running = start_valkey(tmp_path, StoreSettings(), os.environ)
    try:
        listening = [c.laddr.ip for c in psutil.Process(running.process.pid).net_connections() if c.status == "LISTEN"]
        assert listening == ["127.0.0.1"]
        with redis.Redis.from_url(store_url(running.settings)) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    finally:
        running.stop()


def test_a_busy_configured_port_is_a_clear_error(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortBusy, match=rf"port {port} on 127\.0\.0\.1 .*FLYWHEEL_STORE__PORT"):
            start_valkey(tmp_path, StoreSettings(port=port), os.environ)
