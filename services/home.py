"""The home folder: fit to be written, and held by one stack at a time."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streaming.errors import FlywheelError

_ROOM_BYTES = 64 * 1024 * 1024
_WRITING_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR)


class HomeUnusable(FlywheelError):
    """The home folder cannot be written, or is full."""


class AlreadyRunning(FlywheelError):
    """Another stack runs on the same home."""


@contextmanager
def held(home: Path) -> Iterator[None]:
    """Hold the home for one stack, after a check that it can be written and has room.

    Raises HomeUnusable and AlreadyRunning.
    """
    usable(home)
    with writing(home):
        lock = (home / "run" / "lock").open("a+")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise AlreadyRunning(
                f"a stack already runs on {home} (process {lock.read().strip()}): "
                "stop it first, or set FLYWHEEL_HOME to another folder"
            ) from None
        with writing(home):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        yield


def usable(home: Path) -> None:
    """Check that the home can be written and has room; raises HomeUnusable."""
    with writing(home):
        run = home / "run"
        run.mkdir(parents=True, exist_ok=True)
        _need_room(run / f"room-{os.getpid()}")


@contextmanager
def writing(home: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write under `home` into HomeUnusable."""
    try:
        yield
    except OSError as error:
        if error.errno not in _WRITING_FAILED:
            raise
        raise HomeUnusable(_sentence(home, error.strerror or "refused")) from error


def is_full(home: Path) -> bool:
    """Whether the disk of the home has less room left than a stack needs to start."""
    return shutil.disk_usage(home).free < _ROOM_BYTES


def full(home: Path) -> HomeUnusable:
    """Return the error for a home whose disk is full."""
    return HomeUnusable(_sentence(home, os.strerror(errno.ENOSPC)))


def _need_room(probe: Path) -> None:
    descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.posix_fallocate(descriptor, 0, _ROOM_BYTES)
    finally:
        os.close(descriptor)
        probe.unlink()


def _sentence(home: Path, reason: str) -> str:
    return (
        f"the home folder {home} cannot be written ({reason}): make room for at least {_ROOM_BYTES >> 20} MB there, "
        "or set FLYWHEEL_HOME to another folder"
    )
