"""A model as a directory: immutable, with a manifest of SHA-256 sums, loadable without pickle, tables memory-mapped."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.row_file import RowFile
from models.seal import read_seal, seal_of, write_seal
from models.spec import FORMAT_VERSION, ModelSpec
from streaming.errors import FlywheelError
from streaming.ids import ItemId

MANIFEST = "manifest.json"
SPEC, ITEMS, METRICS = "spec.json", "items.json", "metrics.json"
WEIGHTS, USER_TOWER, RANKER, INDEX = "weights.safetensors", "user_tower.onnx", "ranker.onnx", "index.faiss"

T = TypeVar("T")
Scalar = TypeVar("Scalar", bound=np.generic)


class CorruptArtifact(FlywheelError):
    """A model's directory is incomplete, damaged or of another format."""


class Manifest(msgspec.Struct, frozen=True):
    """The files of an artifact with their SHA-256 sums."""

    format_version: int
    version: str
    files: dict[str, str]


@dataclass(frozen=True)
class Artifact:
    """A verified directory."""

    directory: Path
    version: str
    spec: ModelSpec
    item_ids: list[ItemId]

    @classmethod
    def open(cls, directory: Path, seal: Path | None = None) -> "Artifact":
        """Check every file against the manifest and read the spec; raises CorruptArtifact with the file at fault.

        With the path of a `seal` the files are read whole only unless it proves that just these were verified before;
        it is written once they were.
        """
        manifest = _read(directory / MANIFEST, Manifest)
        if manifest.format_version != FORMAT_VERSION:
            raise CorruptArtifact(
                f"model {directory.name!r} has format {manifest.format_version} and this code reads {FORMAT_VERSION}: "
                "train it again"
            )
        if not manifest.version.endswith(f"-{_content(manifest.files)}"):
            raise CorruptArtifact(f"model {manifest.version!r} is named for other files than its manifest lists")
        present = {path.name for path in directory.iterdir() if path.name != MANIFEST}
        for name in sorted(present ^ manifest.files.keys()):
            raise CorruptArtifact(f"model file {name!r} is {'not in the manifest' if name in present else 'missing'}")
        before = seal_of(directory, MANIFEST)
        if seal is None or read_seal(seal) != before:
            _verify(directory, manifest)
            if seal is not None:
                write_seal(seal, before)
        item_ids = _read(directory / ITEMS, list[ItemId])
        return cls(directory, manifest.version, _read(directory / SPEC, ModelSpec), item_ids)

    def floats(self, name: str) -> NDArray[np.float32]:
        """Return a float32 table, memory-mapped; raises CorruptArtifact when there is none of that name."""
        return _mapped(self.directory / f"{name}.npy", np.dtype(np.float32))

    def row_file(self, name: str, dtype: type[Scalar]) -> RowFile[Scalar]:
        """Return a table whose rows are read when they are asked for; raises CorruptArtifact when there is none."""
        path = self.directory / f"{name}.npy"
        try:
            table = RowFile[Scalar](path)
        except (OSError, ValueError) as error:
            raise CorruptArtifact(f"model table {path.name!r} cannot be read: {error}") from error
        if table.dtype != np.dtype(dtype):
            raise CorruptArtifact(f"model table {path.name!r} holds {table.dtype}, not {np.dtype(dtype)}")
        return table

    def file(self, name: str) -> bytes:
        """Return a file's bytes; raises CorruptArtifact when there is none of that name."""
        try:
            return (self.directory / name).read_bytes()
        except OSError as error:
            raise CorruptArtifact(f"model file {name!r} cannot be read: {error}") from error

    def metrics(self) -> dict[str, float]:
        """Return what was measured in training."""
        return _read(self.directory / METRICS, dict[str, float])


@dataclass(frozen=True)
class Parts:
    """What an artifact is made of: `files` by name, `arrays` by name without suffix."""

    spec: ModelSpec
    item_ids: list[ItemId]
    metrics: Mapping[str, float]
    files: Mapping[str, bytes]
    arrays: Mapping[str, NDArray[np.generic]]


def write_artifact(directory: Path, parts: Parts) -> str:
    """Write the parts into `directory`, which is made and must be empty; returns the version.

    The version is the end of the training data and a sum over all files: the same model gets the same version.
    Raises FileExistsError when the directory holds anything.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty")
    files = {
        SPEC: _pretty(parts.spec),
        ITEMS: msgspec.json.encode(parts.item_ids),
        METRICS: _pretty(dict(parts.metrics)),
        **parts.files,
        **{f"{name}.npy": _npy(array) for name, array in parts.arrays.items()},
    }
    for name, data in files.items():
        (directory / name).write_bytes(data)
    sums = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    until = datetime.fromtimestamp(parts.spec.trained_until / 1000, UTC)
    version = f"{until:%Y%m%dt%H%M%S}-{_content(sums)}"
    (directory / MANIFEST).write_bytes(_pretty(Manifest(FORMAT_VERSION, version, sums)))
    return version


def stored_version(directory: Path) -> str | None:
    """Return the version that an artifact's manifest gives, None where it cannot be read, which its loader tells."""
    try:
        return _read(directory / MANIFEST, Manifest).version
    except CorruptArtifact:
        return None


def _content(sums: Mapping[str, str]) -> str:
    """Return what the files with these SHA-256 sums, by name, have in a version."""
    return hashlib.sha256(msgspec.json.encode(dict(sorted(sums.items())))).hexdigest()[:12]


def _verify(directory: Path, manifest: Manifest) -> None:
    for name, digest in manifest.files.items():
        if _sha256(directory / name) != digest:
            raise CorruptArtifact(f"model file {name!r} is damaged: its SHA-256 differs from the manifest's")


def _mapped(path: Path, dtype: np.dtype[Scalar]) -> NDArray[Scalar]:
    try:
        table: NDArray[Scalar] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise CorruptArtifact(f"model table {path.name!r} cannot be read: {error}") from error
    if table.dtype != dtype:
        raise CorruptArtifact(f"model table {path.name!r} holds {table.dtype}, not {dtype}")
    # A plain view is mapped as well, but much faster to index than numpy's memmap class.
    return np.asarray(table)


def _npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def _pretty(value: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value), indent=2)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise CorruptArtifact(f"model file {path.name!r} cannot be read: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
