"""What following the log has come to, kept in a folder, so that a start reads only what the log has gained since.

The folder is a cache: the log has everything, and a snapshot that does not fit it is not used. A snapshot is columns in
NumPy's format with a manifest of SHA-256 sums, without pickle; it takes the place of the one before in one step.
"""

import fcntl
import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from features.popularity import DayCounts
from services.recommend.followed import Followed, Offsets, Uses
from services.recommend.item_table import ItemTable
from services.recommend.ragged import Ragged
from streaming.errors import FlywheelError
from streaming.topic_state import TopicState

_log = logging.getLogger(__name__)

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
_NEW = ".new"


class SnapshotRefused(FlywheelError):
    """A snapshot is damaged, too old, or of another log."""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A snapshot's manifest: of which topics by name it is, in ms UTC when it was taken, its files' SHA-256 sums."""

    format_version: int
    topic_ids: dict[str, str]
    taken_at: int
    catalogue: dict[str, int]
    interactions: dict[str, int]
    files: dict[str, str]


class Snapshots:
    """The snapshots of one namespace in `folder`; `items` and `interactions` are the topics that were followed."""

    def __init__(self, folder: Path, items: str, interactions: str, now: Callable[[], int]) -> None:
        self._folder = folder
        self._items = items
        self._interactions = interactions
        self._now = now

    @property
    def topics(self) -> list[str]:
        """The topics that a snapshot is of."""
        return [self._items, self._interactions]

    def newest(self, states: Mapping[str, TopicState]) -> Followed | None:
        """Return what the newest snapshot holds, mapped; None, with the reason in the log, when it is not to be used.

        `states` are those of the topics as they are now.
        """
        folders = _folders(self._folder)
        if not folders:
            return None
        try:
            return self._read(folders[-1], states)
        except (SnapshotRefused, OSError) as error:
            _log.warning("the catalogue is read from the log, not from its snapshot: %s", error)
            return None

    def write(self, followed: Followed, topic_ids: Mapping[str, str]) -> ItemTable | None:
        """Keep `followed`; returns its table, mapped from the new files, or None while another process writes one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with _alone(self._folder / "lock") as alone:
            if not alone:
                return None
            new, taken_at = self._folder / _NEW, self._now()
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for name, array in _arrays(followed).items():
                np.save(new / f"{name}.npy", array, allow_pickle=False)
            kept = Kept(
                FORMAT_VERSION,
                dict(topic_ids),
                taken_at,
                dict(followed.offsets.catalogue),
                dict(followed.offsets.interactions),
                {path.name: _sha256(path) for path in sorted(new.iterdir())},
            )
            (new / MANIFEST).write_bytes(msgspec.json.encode(kept))
            before = _folders(self._folder)
            target = self._folder / f"{max([taken_at, *(int(path.name) + 1 for path in before)]):015d}"
            new.rename(target)
            for path in before:
                shutil.rmtree(path, ignore_errors=True)
            return ItemTable.from_arrays(_mapped(target))

    def _read(self, folder: Path, states: Mapping[str, TopicState]) -> Followed:
        try:
            kept = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Kept)
        except msgspec.DecodeError as error:
            raise SnapshotRefused(f"its manifest cannot be read: {error}") from error
        self._check(kept, states)
        for name, digest in kept.files.items():
            if _sha256(folder / name) != digest:
                raise SnapshotRefused(f"its file {name!r} is damaged")
        arrays = _mapped(folder)
        uses = Uses(
            item_ids=Ragged(arrays["used_ids"], arrays["used_ids_starts"]),
            counts=DayCounts(arrays["used_rows"], arrays["used_days"], arrays["used_counts"]),
            lately=arrays["lately"],
        )
        return Followed(ItemTable.from_arrays(arrays), uses, Offsets(kept.catalogue, kept.interactions))

    def _check(self, kept: Kept, states: Mapping[str, TopicState]) -> None:
        """Raise SnapshotRefused unless what the log has gained since leads from the snapshot to the log of now."""
        if kept.format_version != FORMAT_VERSION:
            raise SnapshotRefused(f"it has format {kept.format_version} and this code reads {FORMAT_VERSION}")
        if kept.topic_ids != {name: states[name].topic_id for name in self.topics}:
            raise SnapshotRefused("it is of other topics")
        age, most = self._now() - kept.taken_at, states[self._items].deletions_kept_ms // 2
        if not 0 <= age <= most:
            # What was removed since may have left the log without a trace.
            raise SnapshotRefused(f"it is {age / 3_600_000:.1f} h old, and half of delete.retention.ms is the limit")
        for topic, offsets in ((self._items, kept.catalogue), (self._interactions, kept.interactions)):
            for partition, offset in offsets.items():
                if offset > states[topic].end.get(int(partition), 0):
                    raise SnapshotRefused(f"the log of {topic!r} ends before it")
        if any(kept.catalogue.get(str(partition), 0) < first for partition, first in states[self._items].first.items()):
            raise SnapshotRefused(f"the log of {self._items!r} begins after it")


def _arrays(followed: Followed) -> dict[str, NDArray[Any]]:
    uses = followed.uses
    return {
        **followed.table.arrays(),
        "used_ids": uses.item_ids.values,
        "used_ids_starts": uses.item_ids.starts,
        "used_rows": uses.counts.rows,
        "used_days": uses.counts.days,
        "used_counts": uses.counts.counts,
        "lately": uses.lately,
    }


def _mapped(folder: Path) -> dict[str, NDArray[Any]]:
    # A plain view is mapped as well, but much faster to index than numpy's memmap class.
    return {path.stem: np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)) for path in folder.glob("*.npy")}


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*")) if folder.is_dir() else []


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Hold a lock file, if no other process does; yields whether it is held."""
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
