"""A bounded spool on disk: what was appended survives the death of the process and of the machine, in its order.

It is a SQLite database whose write-ahead log is synchronised at every commit (https://www.sqlite.org/wal.html). One
thread writes; what is appended while it commits shares the next commit.
"""

import itertools
import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import msgspec

from streaming.errors import FlywheelError
from streaming.records import Record

T = TypeVar("T")

_log = logging.getLogger(__name__)

_MOST_FILES = 1_000
_CLOSE_TIMEOUT_S = 30.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spooled (
  number INTEGER PRIMARY KEY, spooled_at INTEGER NOT NULL, topic TEXT NOT NULL, key BLOB NOT NULL, value BLOB,
  headers BLOB NOT NULL, size INTEGER NOT NULL
)
"""
_INSERT = "INSERT INTO spooled (spooled_at, topic, key, value, headers, size) VALUES (?, ?, ?, ?, ?, ?)"
_Headers = tuple[tuple[str, bytes], ...]


class SpoolError(FlywheelError):
    """A spool did not do what it was asked."""


class SpoolHeld(SpoolError):
    """Another process owns the spool's file."""


class SpoolUnusable(SpoolError):
    """The spool's file or folder cannot be read or written."""


class SpoolFull(SpoolError):
    """Records do not fit in the spool, or on its disk."""


class SpoolFailed(SpoolError):
    """The disk refused, or the spool is closed."""


@dataclass(frozen=True)
class Spooled:
    """A record in the spool, since `spooled_at`, ms UTC; numbers grow in the order of appending."""

    number: int
    spooled_at: int
    record: Record


@dataclass(frozen=True)
class Fill:
    """How much is in a spool: records, their bytes, and when the oldest was appended, ms UTC, or None."""

    records: int = 0
    bytes: int = 0
    oldest_at: int | None = None


@dataclass(frozen=True)
class SpoolPlace:
    """Where a process spools: the first file `NAME-NUMBER.spool` of a folder that no other process owns.

    `capacity` in bytes of records, `now` in ms UTC.
    """

    folder: Path
    name: str
    capacity: int
    now: Callable[[], int]

    def claim(self) -> "Spool":
        """Own a file, with what a process that died has left in it; raises SpoolUnusable."""
        _make(self.folder)
        for number in range(_MOST_FILES):
            try:
                return Spool(self.folder / f"{self.name}-{number}.spool", self.capacity, self.now)
            except SpoolHeld:
                continue
        raise SpoolUnusable(f"all {_MOST_FILES} spools {self.name!r} in {self.folder} are owned: choose another folder")

    def files(self) -> list[Path]:
        """Return the spools' files that are there, owned or not, sorted."""
        return sorted(self.folder.glob(f"{self.name}-*.spool"))

    def unfinished(self) -> list[Path]:
        """Return the spools' files that a process owns or that hold something, sorted."""
        return [path for path in self.files() if not self._is_finished(path)]

    def _is_finished(self, path: Path) -> bool:
        try:
            spool = Spool(path, self.capacity, self.now)
        except (SpoolHeld, SpoolUnusable):
            return False
        with closing(spool):
            return spool.is_empty

    def left_behind(self) -> "Iterator[Spool]":
        """Yield the spools that no process owns, to be drained, one after the other; each is closed afterwards."""
        for path in self.files():
            try:
                spool = Spool(path, self.capacity, self.now)
            except SpoolHeld:
                continue
            except SpoolUnusable as error:
                _log.error("a spool that was left behind stays where it is: %s", error)
                continue
            try:
                yield spool
            finally:
                spool.close()


@dataclass(frozen=True)
class _Append:
    records: Sequence[Record]
    size: int
    done: "Future[None]"


class Spool:
    """The records of one file, owned by one process. Every method may be called from any thread."""

    def __init__(self, path: Path, capacity: int, now: Callable[[], int]) -> None:
        """Open the file, or make it; `capacity` in bytes of records, `now` in ms UTC.

        The file is larger than its records by up to their size again and some MB. Raises SpoolHeld and SpoolUnusable.
        """
        self.path = path
        self.capacity = capacity
        self._now = now
        self._connection = _opened(path)
        # What is appended counts from the call on, so that the bound holds for what waits in memory too.
        self._fill = self._count()
        self._changed = threading.Condition()
        self._jobs: list[_Append | Callable[[], None]] = []
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="spool", daemon=True)
        self._writer.start()

    @property
    def now(self) -> int:
        """The time by the spool's clock, ms UTC."""
        return self._now()

    @property
    def fill(self) -> Fill:
        """How much is in it, what is being written included."""
        return self._fill

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in it and nothing is being written."""
        return self._fill.records == 0

    def append(self, records: Sequence[Record]) -> "Future[None]":
        """Append records, all or none; the future is done when they are on the disk.

        It fails with SpoolFull when they do not fit, and with SpoolFailed.
        """
        done: Future[None] = Future()
        size = sum(record.size for record in records)
        with self._changed:
            refusal = self._refusal(size)
            if refusal is None:
                self._count_in(len(records), size)
                self._jobs.append(_Append(records, size, done))
                self._changed.notify()
        if refusal is not None:
            done.set_exception(refusal)
        return done

    def first(self, limit: int, *, topic: str | None = None, but: Collection[str] = ()) -> list[Spooled]:
        """Return the oldest records, at most `limit`, in the order of appending; raises SpoolFailed.

        Only those of the `topic`, where one is given, and none of the topics `but`.
        """
        return self._in_writer(lambda: self._read(limit, topic, but))

    def keys(self, topic: str) -> frozenset[bytes]:
        """Return the keys of a topic that it holds records of; raises SpoolFailed."""
        return self._in_writer(lambda: self._read_keys(topic))

    def remove(self, numbers: Sequence[int]) -> None:
        """Remove the records of these numbers; what they held is overwritten. Raises SpoolFailed."""
        self._in_writer(lambda: self._remove(numbers))

    def remove_where(self, belongs: Callable[[Record], bool]) -> int:
        """Remove the records that `belongs` says yes to; what they held is overwritten. Returns how many there were.

        Raises SpoolFailed.
        """
        numbers = [one.number for one in self.first(-1) if belongs(one.record)]
        return self._in_writer(lambda: self._erase(numbers))

    def close(self) -> None:
        """Write what is being appended and close the file. Harmless when repeated."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._writer.join(_CLOSE_TIMEOUT_S)

    def _refusal(self, size: int) -> SpoolError | None:
        if self._closed:
            return SpoolFailed(f"the spool {self.path} is closed")
        if self._fill.bytes + size > self.capacity:
            return SpoolFull(f"the spool {self.path} is full: {self._fill.bytes} of {self.capacity} bytes are taken")
        return None

    def _in_writer(self, function: Callable[[], T]) -> T:
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(function())
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                done.set_exception(SpoolFailed(f"the spool {self.path} failed: {error}"))

        with self._changed:
            if self._closed:
                raise SpoolFailed(f"the spool {self.path} is closed")
            self._jobs.append(run)
            self._changed.notify()
        return done.result()

    def _write(self) -> None:
        while jobs := self._taken():
            for is_append, group in itertools.groupby(jobs, lambda job: isinstance(job, _Append)):
                if is_append:
                    self._commit([job for job in group if isinstance(job, _Append)])
                else:
                    for job in group:
                        if callable(job):
                            job()
        self._connection.close()

    def _taken(self) -> "list[_Append | Callable[[], None]]":
        """Return what is to be done, at least one job; none when the spool was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            jobs, self._jobs = self._jobs, []
            return jobs

    def _commit(self, appends: Sequence[_Append]) -> None:
        now = self._now()
        rows = [
            (now, record.topic, record.key, record.value, msgspec.json.encode(record.headers), record.size)
            for append in appends
            for record in append.records
        ]
        try:
            with self._transaction():
                self._connection.executemany(_INSERT, rows)
        except sqlite3.Error as error:
            refusal = _refused(self.path, error)
            _log.error("%d records were not spooled: %s", len(rows), refusal)
            with self._changed:
                self._count_in(-len(rows), -sum(append.size for append in appends))
            for append in appends:
                append.done.set_exception(refusal)
            return
        with self._changed:
            if rows and self._fill.oldest_at is None:
                self._fill = replace(self._fill, oldest_at=now)
        for append in appends:
            append.done.set_result(None)

    def _read(self, limit: int, topic: str | None, but: Collection[str]) -> list[Spooled]:
        rows = self._connection.execute(
            "SELECT number, spooled_at, topic, key, value, headers FROM spooled WHERE topic = coalesce(?, topic) "
            "AND topic NOT IN (SELECT value FROM json_each(?)) ORDER BY number LIMIT ?",
            (topic, json.dumps([*but]), limit),
        )
        return [
            Spooled(number, spooled_at, Record(topic, key, value, msgspec.json.decode(headers, type=_Headers)))
            for number, spooled_at, topic, key, value, headers in rows
        ]

    def _read_keys(self, topic: str) -> frozenset[bytes]:
        return frozenset(
            key for (key,) in self._connection.execute("SELECT DISTINCT key FROM spooled WHERE topic = ?", (topic,))
        )

    def _erase(self, numbers: Sequence[int]) -> int:
        removed = self._remove(numbers)
        self._empty_the_log()  # so that it keeps nothing of what is gone either
        return removed

    def _remove(self, numbers: Sequence[int]) -> int:
        with self._transaction():
            found = self._connection.execute(
                "DELETE FROM spooled WHERE number IN (SELECT value FROM json_each(?)) RETURNING size",
                (json.dumps(numbers),),
            ).fetchall()
        sizes = [size for (size,) in found]
        oldest = self._oldest()
        with self._changed:
            self._count_in(-len(sizes), -sum(sizes))
            self._fill = replace(self._fill, oldest_at=oldest)
        if oldest is None:
            self._empty_the_log()
        return len(sizes)

    def _empty_the_log(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _transaction(self) -> sqlite3.Connection:
        """Begin a transaction; the connection as a context manager commits it, or rolls it back."""
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def _count_in(self, records: int, size: int) -> None:
        self._fill = replace(self._fill, records=self._fill.records + records, bytes=self._fill.bytes + size)

    def _count(self) -> Fill:
        count, size = self._connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM spooled").fetchone()
        return Fill(int(count), int(size), self._oldest())

    def _oldest(self) -> int | None:
        row = self._connection.execute("SELECT spooled_at FROM spooled ORDER BY number LIMIT 1").fetchone()
        return None if row is None else int(row[0])


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SpoolUnusable(
            f"the spool's folder {folder} cannot be made ({error.strerror}): make it writable or choose another"
        ) from error


def _opened(path: Path) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        # One owner, which the operating system forgets as soon as its process is gone; no index in shared memory then.
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA secure_delete=ON")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SCHEMA)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise SpoolHeld(
                f"another process owns the spool {path}: stop it first, or choose another folder"
            ) from error
        raise SpoolUnusable(
            f"the spool {path} cannot be opened ({error}): make room and access, or move the file away"
        ) from error
    return connection


def _refused(path: Path, error: sqlite3.Error) -> SpoolError:
    if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
        return SpoolFull(f"the disk of the spool {path} is full")
    return SpoolFailed(f"the spool {path} failed: {error}")
