"""Items' titles and texts as vectors, each text encoded once: what was encoded is kept in a file."""

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from models.content import ItemContent
from streaming.errors import FlywheelError

_DIGEST = 16  # bytes
_AT_ONCE = 1_024


class TextEncoder(Protocol):
    """Turns texts into vectors; vectors of two names do not compare."""

    name: str
    width: int

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[texts, width], each vector of length 1, the same for the same text."""


class TextCacheUnusable(FlywheelError):
    """The file of encoded texts cannot be read."""


def with_text_vectors(items: Sequence[ItemContent], encoder: TextEncoder, file: Path) -> list[ItemContent]:
    """Return the items with the vectors of their title and text; None stays where there is neither.

    Vectors are taken from the file where it has them; afterwards it holds those of these items. It may be deleted at
    any time. Raises TextCacheUnusable.
    """
    texts = [_text(item) for item in items]
    keys = [_key(encoder, text) for text in texts]
    known = _read(file, encoder.width)
    vectors = {key: known[key] for key in keys if key in known}
    new = {key: text for key, text in zip(keys, texts, strict=True) if text and key not in vectors}
    waiting = list(new.items())
    for start in range(0, len(waiting), _AT_ONCE):
        part = waiting[start : start + _AT_ONCE]
        vectors.update(zip((key for key, _ in part), encoder.encode([text for _, text in part]), strict=True))
    if vectors.keys() != known.keys():
        _write(file, vectors, encoder.width)
    return [replace(item, text_vector=vectors.get(key)) for item, key in zip(items, keys, strict=True)]


def _text(item: ItemContent) -> str:
    return ". ".join(part for part in (item.title.strip(), item.text.strip()) if part)


def _key(encoder: TextEncoder, text: str) -> bytes:
    return hashlib.blake2b(f"{encoder.name}\0{text}".encode(), digest_size=_DIGEST).digest()


def _read(file: Path, width: int) -> dict[bytes, NDArray[np.float32]]:
    if not file.exists():
        return {}
    try:
        tables = load_file(file)
    except (OSError, SafetensorError) as error:
        raise TextCacheUnusable(f"the encoded texts in {file} cannot be read, delete the file: {error}") from error
    keys, vectors = (tables.get(name, np.zeros(0)) for name in ("keys", "vectors"))
    if keys.shape[1:] != (_DIGEST,) or vectors.shape != (len(keys), width) or vectors.dtype != np.float32:
        raise TextCacheUnusable(f"{file} does not hold this encoder's texts: delete the file")
    return {key.tobytes(): vector for key, vector in zip(keys, vectors, strict=True)}


def _write(file: Path, vectors: dict[bytes, NDArray[np.float32]], width: int) -> None:
    """Write the file in one step, so that one that exists is whole."""
    keys = np.frombuffer(b"".join(vectors), dtype=np.uint8).reshape(-1, _DIGEST)
    rows = np.array(list(vectors.values()), dtype=np.float32).reshape(-1, width)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".partial", delete=False) as draft:
        draft.write(save({"keys": keys, "vectors": rows}))
    Path(draft.name).replace(file)
