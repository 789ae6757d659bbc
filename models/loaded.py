"""A model of the registry, fetched to be measured."""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import msgspec

from models.artifact import Artifact
from models.gate import CALIBRATION_ERROR, Evaluated
from models.offline import evaluate
from models.registry import Registry
from models.scorer import Scorer
from models.slices import Slice


@dataclass(frozen=True)
class Loaded:
    """A model's scorer and what training has measured."""

    scorer: Scorer
    metrics: dict[str, float]

    @classmethod
    def of(cls, registry: Registry, version: str, stack: ExitStack) -> Self:
        """Fetch a model into a folder that lives as long as `stack`; raises UnknownModel, CorruptArtifact, OSError."""
        folder = Path(stack.enter_context(TemporaryDirectory()))
        registry.fetch(version, folder)
        return cls(Scorer.load(folder), Artifact.open(folder).metrics())

    def evaluated(self, part: Slice) -> Evaluated:
        """Return what the gate asks of the model on a slice, of the users that have a history there."""
        found = evaluate(self.scorer, part)
        # Without a history every model shows what is popular: who has none says nothing of one, and would hide much.
        asked = {user: value for user, value in found.ndcg10.items() if part.users[user].events}
        return msgspec.structs.replace(found, ndcg10=asked, calibration_error=self.metrics.get(CALIBRATION_ERROR))
