"""The local cache of models, in BentoML's model store: what `bentoml models list` shows and the recommender reads.

The truth is the registry; every model here came from it, whole and verified, with its lineage as labels and metadata.
Importing BentoML takes a second: only who needs the store imports this module.
"""

import logging
import shutil
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import bentoml
import msgspec
from bentoml.exceptions import BentoMLException, NotFound

from models.artifact import Artifact
from models.registry import Registry
from streaming.namespace import Namespace

_log = logging.getLogger(__name__)

_ARTIFACT, _SEAL = "artifact", "verified.json"


class ModelCache:
    """The artifacts of a namespace on this machine; a model's name is `NAMESPACE-model`, its version the registry's."""

    def __init__(self, registry: Registry, namespace: Namespace) -> None:
        self._registry = registry
        self._name = f"{namespace}-model"

    def tag(self, version: str) -> str:
        """Return how BentoML calls a version."""
        return f"{self._name}:{version}"

    def pull(self, version: str) -> Path:
        """Return the folder of an artifact, fetched once; raises UnknownModel, CorruptArtifact or OSError."""
        try:
            return self._folder(version)
        except NotFound:
            with TemporaryDirectory() as folder:
                fetched = Path(folder) / _ARTIFACT
                self._registry.fetch(version, fetched)
                artifact = Artifact.open(fetched)
                labels, metadata = _labels(artifact), _metadata(artifact)
                try:
                    with bentoml.models.create(self.tag(version), labels=labels, metadata=metadata) as model:
                        shutil.move(fetched, model.path)
                except BentoMLException:
                    found = self._folder(version)  # or the error is raised on, with what BentoML said before
                    _log.info("another process has fetched model %r meanwhile", version)
                    return found
        return self._folder(version)

    def open(self, version: str) -> Artifact:
        """Return an artifact, fetched once and verified once; raises what `pull` raises."""
        folder = self.pull(version)
        return Artifact.open(folder, folder.with_name(_SEAL))

    def drop(self, version: str) -> None:
        """Remove an artifact from this machine, if it is there."""
        try:
            bentoml.models.delete(self.tag(version))
        except NotFound:
            return

    def keep_only(self, version: str) -> None:
        """Remove every artifact but one."""
        for model in bentoml.models.list(self._name):
            if model.tag.version != version:
                self.drop(str(model.tag.version))

    def _folder(self, version: str) -> Path:
        return Path(bentoml.models.get(self.tag(version)).path) / _ARTIFACT


def _labels(artifact: Artifact) -> dict[str, str]:
    lineage = artifact.spec.lineage
    until = datetime.fromtimestamp(artifact.spec.trained_until / 1000, UTC)
    return {
        "trained_until": until.isoformat(),
        "code_version": lineage.code_version,
        "seed": str(lineage.seed),
        "parent": lineage.parent or "none",
        **{f"snapshot.{table}": str(snapshot) for table, snapshot in lineage.snapshots.items()},
    }


def _metadata(artifact: Artifact) -> dict[str, Any]:
    return {"spec": _stated(msgspec.to_builtins(artifact.spec)), "metrics": artifact.metrics()}


def _stated(value: Any) -> Any:
    """Return a JSON value without its nulls, of which BentoML takes none."""
    if isinstance(value, dict):
        return {name: _stated(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_stated(part) for part in value if part is not None]
    return value
