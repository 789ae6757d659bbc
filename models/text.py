"""Text vectors as a part of an item's content, the same for trainer and server. Numpy only: nothing here encodes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.spec import TextSpec
from streaming.errors import FlywheelError

ENCODER = "all-minilm-l6-v2"
"""What makes text vectors; vectors of two encoders do not compare."""

_FLOATS = np.dtype("<f4")
_AT_ONCE = 4_096

Vector = NDArray[np.float32]


class NoText(FlywheelError):
    """A model is to read text, and no item has a text vector."""


class OtherTextVectors(FlywheelError):
    """A text vector is not of the encoder whose vectors the model was trained on."""


def fit_text(vectors: Sequence[Vector | None], width: int) -> TextSpec:
    """Return the `width` principal directions of the vectors that there are, None being an item without text.

    Fewer than that many vectors or dimensions give as many directions as there are. I. T. Jolliffe, Principal
    Component Analysis, 2002. Raises NoText without any vector.
    """
    there = [vector for vector in vectors if vector is not None]
    if not there:
        raise NoText("model.text.enabled is set and no item has a title or a text: send items with one, or unset it")
    mean: NDArray[np.float64] = np.asarray(np.mean(there, axis=0, dtype=np.float64))
    scatter = np.zeros((len(mean), len(mean)))
    for start in range(0, len(there), _AT_ONCE):
        part = np.array(there[start : start + _AT_ONCE], dtype=np.float64) - mean
        scatter += part.T @ part
    kept = min(width, len(there), len(mean))
    directions = np.linalg.eigh(scatter)[1][:, ::-1][:, :kept]
    # An eigenvector's sign is arbitrary: its largest entry shall be positive.
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    directions = directions * np.sign(largest)
    return TextSpec(
        ENCODER, kept, mean.astype(_FLOATS).tobytes(), np.ascontiguousarray(directions, dtype=_FLOATS).tobytes()
    )


def text_columns(spec: TextSpec, vectors: Sequence[Vector | None]) -> NDArray[np.float32]:
    """Return float32[items, 1 + spec.width]: 1 and the narrowed vector of length 1, or zeros where there is None.

    Raises OtherTextVectors when a vector has another width than the encoder's.
    """
    mean = np.frombuffer(spec.mean, _FLOATS)
    directions = np.frombuffer(spec.directions, _FLOATS).reshape(len(mean), spec.width)
    columns = np.zeros((len(vectors), 1 + spec.width), dtype=np.float32)
    there = np.array([index for index, vector in enumerate(vectors) if vector is not None], dtype=np.int64)
    for start in range(0, len(there), _AT_ONCE):
        places = there[start : start + _AT_ONCE]
        narrowed = (_stacked([vectors[place] for place in places], len(mean)) - mean) @ directions
        lengths = np.linalg.norm(narrowed, axis=1, keepdims=True)
        columns[places, 0] = 1.0
        columns[places, 1:] = narrowed / np.maximum(lengths, 1e-9)
    return columns


def _stacked(vectors: Sequence[Vector | None], width: int) -> Vector:
    for vector in vectors:
        if vector is None or vector.shape != (width,):
            found = None if vector is None else vector.shape
            raise OtherTextVectors(f"a text vector has shape {found}, the model reads ({width},): encode it again")
    return np.array(vectors, dtype=np.float32)
