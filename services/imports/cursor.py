"""How far the import of a file has come, kept on disk so that it goes on there."""

import hashlib
import os
from pathlib import Path

import msgspec

from services.imports.mapping import Mapping
from services.imports.rows import FileBroken


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are done, of them how many were published, bad or skipped, and when the import began, ms UTC.

    `mapping` is the digest of the mapping that they were read with, empty without one.
    """

    began_at: int
    mapping: str = ""
    rows: int = 0
    published: int = 0
    bad: int = 0
    skipped: int = 0
    finished: bool = False


def digest_of(file: Path, form: str) -> str:
    """Return what tells a file, as one of a format, from every other; raises FileBroken."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(form.encode(), digest_size=16)).hexdigest()
    except OSError as error:
        raise FileBroken(f"{file} cannot be read: {error.strerror}") from error


def digest_of_mapping(mapping: Mapping | None) -> str:
    """Return what tells a mapping from every other, whatever the order of its keys; empty without one."""
    if mapping is None:
        return ""
    return hashlib.blake2b(msgspec.json.encode(mapping, order="deterministic"), digest_size=16).hexdigest()


def load_cursor(folder: Path, digest: str) -> Cursor | None:
    """Return how far the file's import has come, None when it never began."""
    place = folder / f"{digest}.json"
    return msgspec.json.decode(place.read_bytes(), type=Cursor) if place.exists() else None


def save_cursor(folder: Path, digest: str, cursor: Cursor) -> None:
    """Keep a cursor; it is on the disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{digest}.draft"
    with draft.open("wb") as stream:
        stream.write(msgspec.json.encode(cursor))
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(folder / f"{digest}.json")
