"""Backup and restore of a namespace's lake, its Feast registry and the ledger of erasures, without a JVM.

A backup is a folder, local or in an object store: every file that the tables' metadata reaches, copied as it is, and
`backup.json`, written last, which names the tables and the files. Iceberg's metadata holds whole addresses, so a backup
is restored to the warehouse that it was made of. The files never change, so a backup into the same folder copies only
what is new.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fsspec
import msgspec
from pyiceberg.io import FileIO, load_file_io
from pyiceberg.table import Table

from features.config import LakeSettings, require
from features.snapshots import file_properties, open_catalog
from streaming.bounded import raw_records
from streaming.config import KafkaSettings
from streaming.errors import FlywheelError
from streaming.marks import derived_key
from streaming.producer import EventProducer
from streaming.records import Record
from streaming.topics import Topics

_ORDER = {"landings": 0, "erased_rows": 2}  # all others between them
_INDEX = "backup.json"
_REGISTRY = "registry.db"
_FORMAT = 1


class BackupUnusable(FlywheelError):
    """A backup is not whole, or does not belong where it shall be restored."""


class LedgerRecord(msgspec.Struct, frozen=True):
    """One entry of the ledger: its key and its bytes."""

    key: bytes
    value: bytes


class Index(msgspec.Struct, frozen=True):
    """What a backup holds: the tables with the address of their metadata, files with their bytes, ledger and its key's
    digest, which tells whether marks can still be made.
    """

    format: int
    namespace: str
    warehouse: str
    tables: dict[str, str]
    files: dict[str, int]
    has_registry: bool
    ledger: list[LedgerRecord]
    key_check: bytes


@dataclass(frozen=True)
class Place:
    """The folder of a backup, any fsspec address."""

    url: str

    def index(self) -> Index:
        """Return what the backup holds; raises BackupUnusable when it is not whole or of a newer release."""
        try:
            with self.open(_INDEX, "rb") as file:
                index = msgspec.json.decode(file.read(), type=Index)
        except (FileNotFoundError, msgspec.DecodeError) as error:
            raise BackupUnusable(f"{self.url} holds no whole backup: run `flywheel backup` to its end first") from error
        if index.format > _FORMAT:
            raise BackupUnusable(f"{self.url} was made by a newer release: restore it with that one")
        return index

    def open(self, name: str, mode: str) -> Any:
        """Open a file of the backup."""
        return _open(f"{self.url.rstrip('/')}/{name}", mode)

    def size(self, name: str) -> int | None:
        """Return a file's bytes, None when there is none."""
        files, root = fsspec.core.url_to_fs(self.url)
        path = f"{root.rstrip('/')}/{name}"
        return int(files.size(path)) if files.exists(path) else None


@dataclass(frozen=True)
class Holder:
    """What is backed up or restored: settings of the lake, Feast's registry file (any fsspec address), log, topics."""

    lake: LakeSettings
    registry: str
    kafka: KafkaSettings
    topics: Topics


def back_up(holder: Holder, place: Place) -> Index:
    """Copy a namespace's lake to `place`; returns what it holds then.

    The account of what has landed is read before the rows, so that whatever lands meanwhile lands again after a restore
    and counts once; that of what was erased after them, since a row's place is noted before it goes. Entries of the
    ledger that the place has stay there. Raises SnapshotMissing without a lake, BackupUnusable when files expire while
    they are copied, or the place has the backup of another lake.
    """
    before = _before(holder, place)
    catalog, warehouse = open_catalog(holder.lake), require(holder.lake.warehouse, "lake.warehouse")
    found = (name for _, name in catalog.list_tables(holder.topics.namespace))
    names = sorted(found, key=lambda name: _ORDER.get(name, 1))
    tables = [catalog.load_table((holder.topics.namespace, name)) for name in names]
    source, files = _io(holder.lake), {}
    try:
        for path in dict.fromkeys(path for table in tables for path in _reached(table)):
            name = _relative(path, warehouse)
            files[name] = _copy_out(source, path, place, name)
    except FileNotFoundError as error:
        raise BackupUnusable(f"files expired while the backup was made: run it again ({error})") from error
    index = Index(
        format=_FORMAT,
        namespace=holder.topics.namespace,
        warehouse=warehouse,
        tables={name: table.metadata_location for name, table in zip(names, tables, strict=True)},
        files=files,
        has_registry=_copy(holder.registry, f"{place.url.rstrip('/')}/{_REGISTRY}"),
        ledger=[LedgerRecord(key, value) for key, value in (before | _ledger(holder)).items()],
        key_check=_key_check(holder),
    )
    with place.open(_INDEX, "wb") as file:
        file.write(msgspec.json.encode(index))
    return index


def restore(holder: Holder, place: Place, producer: EventProducer) -> Index:
    """Put a backup back where it was made: files, then the ledger's entries that the log lacks, then the tables.

    Interrupted, it goes on when it is called again. Nothing is overwritten: a table that exists and is not as the
    backup has it is refused. The checkpoint of landing goes, since it is of later: what the tables lack lands again.
    The erasures that the ledger knows of must be carried out on what came back before anything reads it. Raises
    BackupUnusable and NotDurable.
    """
    index = place.index()
    _check(holder, index)
    catalog = open_catalog(holder.lake, create=True)
    namespace = holder.topics.namespace
    catalog.create_namespace_if_not_exists(namespace)
    found = {name: catalog.load_table((namespace, name)) for _, name in catalog.list_tables(namespace)}
    if taken := [name for name in sorted(found.keys() & index.tables) if not _is_back(found[name], index)]:
        raise BackupUnusable(
            f"namespace {namespace!r} already has the tables {', '.join(taken)}: drop them first, or, where a "
            "restore has put them back and was interrupted then, run `flywheel erase --again`"
        )
    target = _io(holder.lake)
    for name, size in index.files.items():
        _copy_in(place, name, size, target, f"{index.warehouse.rstrip('/')}/{name}")
    if index.has_registry:
        _copy(f"{place.url.rstrip('/')}/{_REGISTRY}", holder.registry)
    held = _ledger(holder)
    topic = holder.topics.erasures
    producer.deliver((Record(topic, one.key, one.value), 0) for one in index.ledger if one.key not in held)
    missing = [name for name in index.tables if name not in found]
    if missing:  # before the first is back: interrupted after the last, the checkpoint may be of a new lander
        _forget_checkpoint(holder)
    for name in missing:
        catalog.register_table((namespace, name), index.tables[name])
    return index


def _forget_checkpoint(holder: Holder) -> None:
    folder = f"{require(holder.lake.checkpoints, 'lake.checkpoints')}/{holder.topics.namespace}"
    files, path = fsspec.core.url_to_fs(folder)
    if files.exists(path):
        files.rm(path, recursive=True)


def _is_back(table: Table, index: Index) -> bool:
    """Whether a table is as the backup has it: an interrupted restore has put it back, and nothing came after."""
    return bool(table.metadata_location == index.tables[table.name()[-1]])


def _check(holder: Holder, index: Index) -> None:
    namespace, warehouse = holder.topics.namespace, require(holder.lake.warehouse, "lake.warehouse")
    if index.namespace != namespace:
        raise BackupUnusable(f"the backup is of namespace {index.namespace!r}: set FLYWHEEL_NAMESPACE to it")
    if index.warehouse != warehouse:
        raise BackupUnusable(
            f"the backup is of the warehouse {index.warehouse} and its metadata points there: "
            "set FLYWHEEL_LAKE__WAREHOUSE to it"
        )
    if index.key_check != _key_check(holder):
        raise BackupUnusable(
            "the backup was made with another erasure key, so nobody could tell who was erased: "
            "set FLYWHEEL_KAFKA__ERASURE_KEY to the one of then"
        )


def _key_check(holder: Holder) -> bytes:
    return derived_key(holder.kafka, f"backups of {holder.topics.namespace}")


def _before(holder: Holder, place: Place) -> dict[bytes, bytes]:
    """Return the ledger that a place has already; raises BackupUnusable when it is of another lake."""
    if place.size(_INDEX) is None:
        return {}
    index = place.index()
    if (index.namespace, index.warehouse) != (holder.topics.namespace, holder.lake.warehouse):
        raise BackupUnusable(
            f"{place.url} has the backup of {index.namespace} in {index.warehouse}: name another place"
        )
    return {record.key: record.value for record in index.ledger}


def _ledger(holder: Holder) -> dict[bytes, bytes]:
    """Return the newest record of each key of the ledger."""
    found = (record for batch in raw_records(holder.kafka, holder.topics.erasures) for record in batch)
    return {record.key: record.value for record in found if record.value is not None}


def _reached(table: Table) -> Iterator[str]:
    """Yield every file that a table's metadata points to, in all its snapshots; snapshots share manifests."""
    seen: set[str] = set()
    yield table.metadata_location
    for snapshot in table.metadata.snapshots:
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            if manifest.manifest_path in seen:
                continue
            seen.add(manifest.manifest_path)
            yield manifest.manifest_path
            for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                yield entry.data_file.file_path


def _relative(path: str, warehouse: str) -> str:
    root = f"{warehouse.rstrip('/')}/"
    for known in (root, root.removeprefix("file://"), root.replace("file://", "file:")):
        if path.startswith(known):
            return path.removeprefix(known)
    raise BackupUnusable(f"{path} lies outside of the warehouse {warehouse}: it cannot be backed up with it")


def _io(lake: LakeSettings) -> FileIO:
    return load_file_io(file_properties(lake))


def _copy_out(files: FileIO, path: str, place: Place, name: str) -> int:
    size = len(source := files.new_input(path))
    if place.size(name) != size:
        with source.open() as reader, place.open(name, "wb") as writer:
            shutil.copyfileobj(reader, writer)
    return size


def _copy_in(place: Place, name: str, size: int, files: FileIO, path: str) -> None:
    if place.size(name) != size:
        raise BackupUnusable(f"{name} is missing in {place.url} or has another size: the backup is damaged")
    target = files.new_output(path)
    if not target.exists() or len(target) != size:  # a restore that was killed leaves a part of a file
        with place.open(name, "rb") as reader, target.create(overwrite=True) as writer:
            shutil.copyfileobj(reader, writer)


def _copy(source: str, target: str) -> bool:
    """Copy a file where there is one; returns whether there was."""
    files, path = fsspec.core.url_to_fs(source)
    if not files.exists(path):
        return False
    with files.open(path, "rb") as reader, _open(target, "wb") as writer:
        shutil.copyfileobj(reader, writer)
    return True


def _open(url: str, mode: str) -> Any:
    files, path = fsspec.core.url_to_fs(url)
    if "w" in mode:
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
    return files.open(path, mode)
