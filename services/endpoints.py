"""Where a running stack can be reached: a file under the home folder that other commands read."""

import os
from pathlib import Path

import msgspec


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of a running stack and the process that holds it."""

    pid: int
    bootstrap_servers: str
    redis_url: str
    recommender_url: str | None = None
    collector_url: str | None = None


def endpoints_file(home: Path) -> Path:
    """Return the path of the file."""
    return home / "run" / "stack.json"


def write_endpoints(home: Path, endpoints: Endpoints) -> None:
    """Write the file in one step, readable by its owner alone."""
    path = endpoints_file(home)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(endpoints))
    draft.chmod(0o600)
    draft.replace(path)


def read_endpoints(home: Path) -> Endpoints | None:
    """Return the addresses of the stack that runs on `home`, or None when none does."""
    try:
        endpoints = msgspec.json.decode(endpoints_file(home).read_bytes(), type=Endpoints)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return endpoints if _alive(endpoints.pid) else None


def remove_endpoints(home: Path) -> None:
    """Remove the file; nothing happens when there is none."""
    endpoints_file(home).unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
