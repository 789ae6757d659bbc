"""Remembering that an artifact's files were verified, so that the same files need not be read whole again.

A seal names the manifest by its SHA-256 and each file by what the file system says of it. Whatever writes a file, moves
another into its place or touches it changes that, and the seal is void. What a seal cannot see is a disk that gives
back other bytes than were written to it.
"""

import hashlib
import logging
from pathlib import Path

import msgspec

_log = logging.getLogger(__name__)

Stamp = tuple[int, int, int, int]
"""Inode, size, and times of the last write and the last change, ns."""


class Seal(msgspec.Struct, frozen=True):
    """The manifest's SHA-256 and each file's stamp."""

    manifest: str
    files: dict[str, Stamp]


def seal_of(directory: Path, manifest: str) -> Seal:
    """Return the seal of a folder as it is now; `manifest` is its manifest's name."""
    digest = hashlib.sha256((directory / manifest).read_bytes()).hexdigest()
    return Seal(digest, {path.name: _stamp(path) for path in directory.iterdir()})


def read_seal(path: Path) -> Seal | None:
    """Return a seal, None when there is none or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Seal)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_seal(path: Path, seal: Seal) -> None:
    """Write a seal in one step; where that fails, which the log says, the files will be read whole again."""
    new = path.with_name(f"{path.name}.new")
    try:
        new.write_bytes(msgspec.json.encode(seal))
        new.replace(path)
    except OSError as error:
        _log.warning("that %s was verified is not remembered: %s", path.parent, error)


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
