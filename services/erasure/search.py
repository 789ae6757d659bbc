"""Searching every store's bytes for a user's id: gone, gone by a date, or found."""

import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import fsspec
import msgspec
from fsspec import AbstractFileSystem
from pyiceberg.io.fsspec import FsspecFileIO
from redis import Redis

from features.config import require, store_url
from features.online import Layout
from features.snapshots import file_properties
from models.config import artifacts_url
from services.config import Settings
from services.erasure.kept import kept_for_ms
from services.erasure.needle import Needle
from services.erasure.receipt import receipts_folder
from services.spooling import spool_folder
from streaming.bounded import raw_records
from streaming.codec import FromTheFuture, Undecodable, decode
from streaming.consumer import Received
from streaming.ids import UserId
from streaming.ledger import Ledger, LedgerReader

Verdict = Literal["gone", "gone by", "FOUND"]


class Searched(msgspec.Struct, frozen=True, kw_only=True):
    """What a search of one store came to; `gone_by` is the last date of `gone by`, ISO 8601, `where` names places."""

    store: str
    verdict: Verdict
    gone_by: str | None = None
    where: list[str] = []


def search(settings: Settings, user_id: UserId) -> Iterator[Searched]:
    """Yield what was found of a user in each store, of this namespace alone where stores are shared.

    Raises BrokerUnavailable, LedgerMissing, ErasureKeyMissing, redis.RedisError and what the object stores raise.
    """
    needle = Needle(user_id)
    with closing(LedgerReader(settings.kafka, settings.topics)) as reader:
        reader.refresh()
        yield from _topics(settings, needle, reader.ledger)
    yield _found("online store", _store(settings, needle))
    yield _found("append-only files of the embedded store", _append_only(settings, needle))
    lake, namespace = settings.lake.under(settings.home), settings.topics.namespace
    warehouse = f"{require(lake.warehouse, 'lake.warehouse')}/{namespace}"
    files = FsspecFileIO(file_properties(lake)).get_fs("s3" if lake.on_s3 else "file")
    yield _found("lake", _files(warehouse, needle, files))
    yield _found("landing checkpoints", _files(f"{require(lake.checkpoints, 'lake.checkpoints')}/{namespace}", needle))
    artifacts = artifacts_url(settings.model.under(settings.home))
    yield _found("model registry", _files(f"{artifacts}/{namespace}", needle))
    yield _found("spools", _files(str(spool_folder(settings)), needle))
    yield _found("receipts", _files(str(receipts_folder(settings.home, namespace)), needle))
    yield _found("home", _rest_of_home(settings.home, needle))


def _found(store: str, places: Iterable[str]) -> Searched:
    where = list(places)
    return Searched(store=store, verdict="FOUND" if where else "gone", where=where)


def _topics(settings: Settings, needle: Needle, ledger: Ledger) -> Iterator[Searched]:
    kept, topics = kept_for_ms(settings.kafka, settings.topics), settings.topics
    for topic in [*kept, topics.items, topics.models, topics.erasures]:  # no other has anything of a user
        last, back, dropped = 0, [], []
        for record in chain.from_iterable(raw_records(settings.kafka, topic)):
            if not _holds(needle, record):
                continue
            kept_ms, place = kept.get(topic), f"{topic}-{record.partition}@{record.offset}"
            if kept_ms is not None and _is_dropped(record, ledger, needle.user_id):
                last = max(last, record.timestamp + kept_ms)
                dropped.append(place)
            else:
                back.append(place)
        if last and last < time.time_ns() // 1_000_000:  # Kafka has not dropped what it should have
            back += dropped
        if back:
            yield Searched(store=f"topic {topic}", verdict="FOUND", where=back)
        elif last:
            date = datetime.fromtimestamp(last / 1000, UTC).isoformat(timespec="seconds")
            yield Searched(store=f"topic {topic}", verdict="gone by", gone_by=date)
        else:
            yield Searched(store=f"topic {topic}", verdict="gone")


def _holds(needle: Needle, record: Any) -> bool:
    parts = [record.key or b"", record.value or b"", *(value for _, value in record.headers)]
    return any(part == needle.user_id.encode() or needle.is_in(part) for part in parts)


def _is_dropped(record: Any, ledger: Ledger, user_id: UserId) -> bool:
    """Whether a record is of before the user's erasure, so that every reader drops it."""
    cut = ledger.cut(user_id)
    if cut is not None and record.timestamp <= cut:
        return True
    try:
        event = None if record.value is None else decode(record.value)
    except (Undecodable, FromTheFuture):
        return False
    coordinates = (record.topic, record.partition, record.offset)
    return ledger.drops(Received(event, record.key, *coordinates, record.timestamp))


def _store(settings: Settings, needle: Needle) -> Iterator[str]:
    ending = Layout.of(settings.store, settings.topics.namespace).project.encode()
    beginning = f"flywheel:{settings.namespace}:".encode()
    client: Any = Redis.from_url(store_url(settings.store))
    try:
        for key in client.scan_iter(count=1_000):
            if not (key.endswith(ending) or key.startswith(beginning)):
                continue
            if needle.is_in(key) or any(needle.is_in(value) for value in _values(client, key)):
                yield repr(key)
    finally:
        client.close()


def _values(client: Any, key: bytes) -> list[bytes]:
    match client.type(key):
        case b"hash":
            return [part for pair in client.hgetall(key).items() for part in pair]
        case b"zset":
            return list(client.zrange(key, 0, -1))
        case b"string":
            return [client.get(key) or b""]
        case _:  # gone meanwhile
            return []


def _append_only(settings: Settings, needle: Needle) -> Iterator[str]:
    """Yield the files that hold the user's key; they are of all namespaces, whose users may have equal ids."""
    key = Layout.of(settings.store, settings.topics.namespace).user_key(needle.user_id)
    for path in _paths(settings.home / "valkey"):
        if key in _read(path):
            yield str(path)


def _files(url: str, needle: Needle, files: AbstractFileSystem | None = None) -> Iterator[str]:
    files = files or fsspec.core.url_to_fs(url)[0]
    if not files.exists(url):
        return
    for path in sorted(files.find(url)):
        try:
            if needle.is_in_file(files.cat_file(path)):
                yield path
        except FileNotFoundError:  # expired meanwhile
            continue


def _rest_of_home(home: Path, needle: Needle) -> Iterator[str]:
    """Yield files of the home that hold the id: logs, training's checkpoints, encoded texts, snapshots of catalogues.

    The broker's and the store's own files are searched through their servers, the lake's and spools' apart.
    """
    for folder in sorted(home.iterdir()) if home.is_dir() else ():
        if folder.name not in ("kafka", "valkey", "lake", "spool", "models", "receipts"):
            yield from (str(path) for path in _paths(folder) if needle.is_in(_read(path)))


def _paths(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # removed meanwhile
        return b""
