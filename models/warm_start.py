"""Going on from another model's first stage: whether it fits, and what is taken over from it."""

from datetime import UTC, datetime

import msgspec
import torch

from models.config import RetrievalSettings
from models.embedding_vocabulary import EmbeddingVocabulary
from models.log import KINDS
from models.retrieval import RetrievalModel, Shape
from models.retrieval_training import TABLE_WEIGHT
from models.spec import ContentSpec
from models.start import Parent
from models.trainer_state import TrainerState

_MODEL = "model."
_CONTENT = f"{_MODEL}content.weight"


def misfit(parent: Parent, settings: RetrievalSettings, examples_from: int) -> str | None:
    """Return why a training with these settings cannot go on from the parent, None when it can.

    The ranker's examples begin at `examples_from`, ms; a first stage that has seen later events would tell the answers.
    """
    if parent.start.until > examples_from:
        return (
            f"it has seen events up to {_iso(parent.start.until)}, and the ranker is to be trained on examples from "
            f"{_iso(examples_from)} on"
        )
    theirs = parent.spec.retrieval
    for name, there, here in (
        ("length", theirs.length, settings.length),
        ("dim", theirs.dim, settings.dim),
        ("kinds", theirs.kinds, KINDS),
        ("input_scale", theirs.input_scale, settings.input_scale),
    ):
        if there != here:
            return f"its retrieval.{name} is {there}, and this training's is {here}"
    return _other_shape(parent, settings)


def carried_content(fitted: ContentSpec, before: ContentSpec) -> ContentSpec:
    """Return the fitted spec with numbers and text as they were made before, so that taken over weights still fit."""
    known = {number.name: number for number in before.numbers}
    numbers = tuple(known.get(number.name, number) for number in fitted.numbers)
    text = before.text if _text_name(before) == _text_name(fitted) else fitted.text
    return msgspec.structs.replace(fitted, numbers=numbers, text=text)


def carried_state(
    parent: Parent, fresh: TrainerState, vocabulary: EmbeddingVocabulary, content: ContentSpec
) -> TrainerState:
    """Return the fresh state with everything put in its place that the parent knows; the parent must fit.

    Rows that stay with their items come with their optimiser's sums, content weights with what they are of.
    """
    old = parent.start
    state = TrainerState({name: value.clone() for name, value in fresh.weights.items()}, fresh.sums.clone())
    there, here = (torch.from_numpy(rows) for rows in old.vocabulary.kept_by(vocabulary))
    state.weights[TABLE_WEIGHT][here] = old.state.weights[TABLE_WEIGHT][there]
    state.sums[here] = old.state.sums[there]
    columns = dict(_columns(parent.spec.content))
    for meaning, column in _columns(content):
        if meaning in columns:
            state.weights[_CONTENT][:, column] = old.state.weights[_CONTENT][:, columns[meaning]]
    for name in state.weights.keys() - {TABLE_WEIGHT, _CONTENT}:
        state.weights[name] = old.state.weights[name]
    return state


def _other_shape(parent: Parent, settings: RetrievalSettings) -> str | None:
    with torch.device("meta"):
        model = RetrievalModel(Shape.of(settings), parent.spec.content.width)
    here = {f"{_MODEL}{name}": list(value.shape) for name, value in model.state_dict().items()}
    weights = parent.start.state.weights
    there = {name: list(value.shape) for name, value in weights.items() if name != TABLE_WEIGHT}
    for name in sorted(here.keys() | there.keys()):
        if here.get(name) != there.get(name):
            return f"its weight {name} has shape {there.get(name)}, and this training's has {here.get(name)}"
    return None


def _columns(spec: ContentSpec) -> list[tuple[tuple[str, str], int]]:
    """Return what each place of a content vector stands for, and the place."""
    meanings = [
        *(("category", name) for name in spec.categories),
        *(("number", number.name) for number in spec.numbers),
        *((_text_name(spec), str(place)) for place in range(spec.text_width)),
    ]
    return list(zip(meanings, range(spec.width), strict=True))


def _text_name(spec: ContentSpec) -> str:
    return f"text {spec.text.encoder} {spec.text.width}" if spec.text else "none"


def _iso(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="seconds")
