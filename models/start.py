"""What a retraining can start from, as an artifact keeps it: the first stage's weights and which row is whose.

They are those from before the refit. The refitted ones have seen the answers of the ranker's examples, and a ranker
must not be trained on scores that come from such weights.
"""

from dataclasses import dataclass

import msgspec
from safetensors import SafetensorError
from safetensors.torch import load, save

from models.artifact import Artifact, CorruptArtifact
from models.embedding_vocabulary import EmbeddingVocabulary
from models.retrieval_training import TABLE_WEIGHT
from models.spec import ModelSpec
from models.trainer_state import TrainerState

START, START_WEIGHTS = "start.json", "start.safetensors"
_SUMS = "rows.sums"


@dataclass(frozen=True)
class Start:
    """A first stage: no event from `until`, ms, on was used for it; `vocabulary` says whose the table's rows are."""

    until: int
    vocabulary: EmbeddingVocabulary
    state: TrainerState


@dataclass(frozen=True)
class Parent:
    """A model in the registry that a retraining starts from."""

    version: str
    spec: ModelSpec
    start: Start


class _Note(msgspec.Struct, frozen=True):
    until: int
    vocabulary: EmbeddingVocabulary


def start_files(start: Start) -> dict[str, bytes]:
    """Return the files of an artifact that keep a start, by name."""
    weights = {**start.state.weights, _SUMS: start.state.sums}
    return {
        START: msgspec.json.encode(_Note(start.until, start.vocabulary)),
        START_WEIGHTS: save({name: value.contiguous() for name, value in weights.items()}),
    }


def read_parent(artifact: Artifact) -> Parent:
    """Return the model with its start; raises CorruptArtifact when the start is missing or damaged."""
    try:
        note = msgspec.json.decode(artifact.file(START), type=_Note)
        weights = load(artifact.file(START_WEIGHTS))
        table, sums = weights[TABLE_WEIGHT], weights.pop(_SUMS)
    except (msgspec.DecodeError, SafetensorError, KeyError) as error:
        raise CorruptArtifact(f"model {artifact.version} keeps no start that can be read: {error}") from error
    if not len(table) == len(sums) == note.vocabulary.size:
        raise CorruptArtifact(
            f"model {artifact.version} keeps a start with {len(table)} rows for a vocabulary of {note.vocabulary.size}"
        )
    return Parent(artifact.version, artifact.spec, Start(note.until, note.vocabulary, TrainerState(weights, sums)))
