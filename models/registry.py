"""The model registry: immutable artifacts in an object store, and a versioned record of which one is the champion.

Each change of the champion is a new numbered file, made by exclusive creation: of two that race for a number one wins
and the other is told, so promote and rollback are one atomic step each, on a folder as on an object store.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

import fsspec
import msgspec
from fsspec import AbstractFileSystem

from models.artifact import SPEC, CorruptArtifact, stored_version
from models.spec import Lineage
from streaming.errors import FlywheelError
from streaming.namespace import Namespace


class NoChampion(FlywheelError):
    """No model was promoted yet."""


class NothingToRollBackTo(FlywheelError):
    """The champion has no predecessor."""


class ChampionChanged(FlywheelError):
    """Another process changed the champion meanwhile."""


class AnotherHistory(FlywheelError):
    """Two registries name different champions under one number."""


class UnknownModel(FlywheelError):
    """The registry has no such model version."""


class Champion(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the champion's history; times in ms UTC. `reason` says why the gate was passed over, if it was."""

    number: int
    model_version: str
    change: Literal["promote", "rollback"]
    changed_at: int
    gate: dict[str, Any]
    reason: str | None = None


class _Trained(msgspec.Struct, frozen=True):
    """What the registry reads of a model's spec."""

    lineage: Lineage


class Registry:
    """The models of one namespace under an fsspec URL or a folder."""

    def __init__(self, url: str, namespace: Namespace) -> None:
        self._files, root = fsspec.core.url_to_fs(url)
        self._artifacts = f"{root}/{namespace}/artifacts"
        self._champions = f"{root}/{namespace}/champions"
        self._gone = f"{root}/{namespace}/gone"

    def add(self, artifact: Path, version: str) -> None:
        """Copy a finished artifact into the registry; the same version again changes nothing."""
        target = f"{self._artifacts}/{version}"
        if self._files.exists(f"{target}/COMPLETE"):
            return
        self._files.makedirs(target, exist_ok=True)
        for file in sorted(path for path in artifact.iterdir() if path.is_file()):
            self._files.put_file(str(file), f"{target}/{file.name}")
        self._files.pipe_file(f"{target}/COMPLETE", b"")

    def fetch(self, version: str, target: Path) -> None:
        """Copy an artifact into the folder `target`. Its loader checks the digests.

        Raises UnknownModel, and CorruptArtifact when another model lies in its place.
        """
        self._require(version)
        source = f"{self._artifacts}/{version}"
        target.mkdir(parents=True, exist_ok=True)
        for name in self._names(source):
            if name != "COMPLETE":
                self._files.get_file(f"{source}/{name}", str(target / name))
        if (found := stored_version(target)) not in (version, None):
            raise CorruptArtifact(f"the registry holds model {found} in the place of {version}: train that one again")

    def copy_to(self, other: "Registry") -> list[str]:
        """Copy what `other` lacks, the champions last; returns the versions that were complete here.

        Interrupted, it goes on when it is called again; nothing that is whole is overwritten. Raises AnotherHistory,
        before anything is copied, as `refuse_unlike` does.
        """
        champions, versions = self._new_to(other), self.versions()  # in this order: each champion is among the versions
        for version in versions:
            self._copy_artifact(version, other)
        for version in self._names(self._gone):
            if other.training_set_gone_since(version) is None:
                self._copy(f"{self._gone}/{version}", other._files, f"{other._gone}/{version}")
        other._files.makedirs(other._champions, exist_ok=True)
        for name, entry in champions.items():
            other._files.pipe_file(f"{other._champions}/{name}", entry)
        return versions

    def refuse_unlike(self, other: "Registry") -> None:
        """Raise AnotherHistory when `other` has another champion under the number of one here."""
        self._new_to(other)

    def _new_to(self, other: "Registry") -> dict[str, bytes]:
        """Return the champion's entries that `other` lacks, by name, in order; raises AnotherHistory."""
        ours, theirs = self._entries(), other._entries()
        for name, entry in ours.items():
            if theirs.get(name, entry) != entry:
                raise AnotherHistory(
                    f"{other._champions}/{name} names another champion than the registry that shall be copied there: "
                    "both have gone on by themselves, so move one of them away first"
                )
        return {name: entry for name, entry in ours.items() if name not in theirs}

    def versions(self) -> list[str]:
        """Return the versions that are complete, sorted."""
        return [
            name for name in self._names(self._artifacts) if self._files.exists(f"{self._artifacts}/{name}/COMPLETE")
        ]

    def training_snapshots(self, version: str) -> dict[str, int]:
        """Return the lake's snapshots by table that a model was trained on; raises UnknownModel."""
        self._require(version)
        spec = self._files.cat_file(f"{self._artifacts}/{version}/{SPEC}")
        return msgspec.json.decode(spec, type=_Trained).lineage.snapshots

    def note_training_set_gone(self, version: str, at: int) -> None:
        """Record beside a model that its training set cannot be had again, noticed `at`, ms; the first record stays."""
        if self.training_set_gone_since(version) is None:
            self._files.makedirs(self._gone, exist_ok=True)
            self._files.pipe_file(f"{self._gone}/{version}", str(at).encode())

    def training_set_gone_since(self, version: str) -> int | None:
        """Return when it was noticed that a model's training set is gone, ms, None while it is not known to be."""
        path = f"{self._gone}/{version}"
        noted = self._files.cat_file(path) if self._files.exists(path) else b""
        return int(noted) if noted else None  # empty: its writer died

    def history(self) -> list[Champion]:
        """Return all changes of the champion, oldest first."""
        return [msgspec.json.decode(entry, type=Champion) for entry in self._entries().values()]

    def champion(self) -> Champion | None:
        """Return the current champion, None before the first promotion."""
        history = self.history()
        return history[-1] if history else None

    def opponents(self, reference_every: int) -> dict[str, str]:
        """Return whom a new model must not be worse than: `champion` and, when it is another model, `reference`.

        The reference is the model of the last promotion whose number is a multiple of `reference_every`, of the first
        promotion while there is none. The gate compares with it at every promotion, so that small losses in a row end
        where their sum is more than one promotion may lose. Promotions that were rolled back do not count.
        Empty before the first promotion.
        """
        standing = _standing(self.history())
        if not standing:
            return {}
        champion = standing[-1]
        reference = standing[max(len(standing) // reference_every * reference_every, 1) - 1]
        return {"champion": champion} if reference == champion else {"champion": champion, "reference": reference}

    def promote(self, change: Champion) -> Champion:
        """Make `change.model_version` the champion, as entry `change.number`, which must be the next one.

        Raises UnknownModel, and ChampionChanged when that number was taken meanwhile.
        """
        self._require(change.model_version)
        if change.number != self.next_number():
            raise ChampionChanged("the champion was changed meanwhile: look at it and try again")
        self._files.makedirs(self._champions, exist_ok=True)
        try:
            with self._files.open(self._entry(change.number), "xb") as file:
                file.write(msgspec.json.encode(change))
        except FileExistsError as error:
            raise ChampionChanged("the champion was changed meanwhile: look at it and try again") from error
        return change

    def rollback(self, now: int, reason: str) -> Champion:
        """Make the model that the current champion replaced the champion again; raises NothingToRollBackTo."""
        number = self.next_number()  # before the history is read: what is promoted meanwhile takes it
        standing = _standing(self.history())
        if len(standing) < 2:
            raise NothingToRollBackTo("the champion has no predecessor: promote another model instead")
        return self.promote(
            Champion(
                number=number,
                model_version=standing[-2],
                change="rollback",
                changed_at=now,
                gate={},
                reason=reason,
            )
        )

    def next_number(self) -> int:
        """Return the number that the next change of the champion gets, from 1."""
        names = self._names(self._champions)
        return 1 + int(names[-1].removesuffix(".json")) if names else 1

    def _require(self, version: str) -> None:
        if "/" in version or not self._files.exists(f"{self._artifacts}/{version}/COMPLETE"):
            raise UnknownModel(f"the registry has no model {version!r}: `flywheel models` lists them")

    def _copy_artifact(self, version: str, other: "Registry") -> None:
        source, target = f"{self._artifacts}/{version}", f"{other._artifacts}/{version}"
        if not other._files.exists(f"{target}/COMPLETE"):
            for name in sorted(self._names(source), key=lambda name: name == "COMPLETE"):
                self._copy(f"{source}/{name}", other._files, f"{target}/{name}")

    def _copy(self, source: str, files: AbstractFileSystem, target: str) -> None:
        files.makedirs(target.rpartition("/")[0], exist_ok=True)
        with self._files.open(source, "rb") as reader, files.open(target, "wb") as writer:
            shutil.copyfileobj(reader, writer)

    def _entries(self) -> dict[str, bytes]:
        """Return the champion's entries by name, in order, but those that are being written or whose writer died."""
        names = self._names(self._champions)
        entries = {name: self._files.cat_file(f"{self._champions}/{name}") for name in names}
        return {name: entry for name, entry in entries.items() if entry}

    def _entry(self, number: int) -> str:
        return f"{self._champions}/{number:08d}.json"

    def _names(self, folder: str) -> list[str]:
        if not self._files.exists(folder):
            return []
        self._files.invalidate_cache()
        return sorted(str(path).rstrip("/").rpartition("/")[2] for path in self._files.ls(folder, detail=False))


def _standing(history: list[Champion]) -> list[str]:
    """Return the models of the promotions that were not rolled back, oldest first; the last is the champion."""
    stack: list[str] = []
    for change in history:
        if change.change == "rollback":
            stack.pop()
        else:
            stack.append(change.model_version)
    return stack
