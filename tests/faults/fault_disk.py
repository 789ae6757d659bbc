"""Small disks that can be filled: tmpfs in a mount namespace of this process and its children, gone when they end."""

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_MS_REC_PRIVATE = (1 << 14) | (1 << 18)
_BLOCK = b"\0" * 65_536


def own_mounts() -> bool:
    """Enter a mount namespace of our own; False where this user may not. Call it before any thread is started."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNS) != 0:
        return False
    return bool(libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC_PRIVATE), None) == 0)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """Have a disk of that size at `folder` while the block runs. The mount namespace must be our own."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(folder: Path) -> Iterator[None]:
    """Leave no room on the disk of `folder` while the block runs."""
    ballast = folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, suppress(_Full):
            while True:
                _write(file.fileno())
        yield
    finally:
        ballast.unlink(missing_ok=True)


class _Full(Exception):
    """The disk is full."""


def _write(descriptor: int) -> None:
    try:
        os.write(descriptor, _BLOCK)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _Full from error
        raise
