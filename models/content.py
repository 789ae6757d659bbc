"""Items' content as vectors, the same for trainer and server."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.spec import ContentSpec, Number
from models.text import fit_text, text_columns
from streaming.ids import ItemId

_MOST_CATEGORIES = 256
_MOST_NUMBERS = 16


@dataclass(frozen=True)
class ItemContent:
    """What is known of an item besides who used it.

    `text_vector`, float32[encoder's width], stands for title and text; None while nobody has made it.
    """

    item_id: ItemId
    title: str = ""
    categories: Sequence[str] = ()
    attributes: Mapping[str, str | float | bool] | None = None
    text: str = ""
    text_vector: NDArray[np.float32] | None = field(default=None, compare=False)


def fit_content(items: Sequence[ItemContent], text_width: int = 0) -> ContentSpec:
    """Return the commonest categories and the numeric attributes of `items` with their mean and deviation.

    With a `text_width` the spec has a text part, fitted on the text vectors that there are; raises NoText without any.
    """
    categories: Counter[str] = Counter()
    numbers: dict[str, list[float]] = {}
    for item in items:
        categories.update(set(item.categories))
        for name, value in (item.attributes or {}).items():
            if _is_number(value):
                numbers.setdefault(name, []).append(float(value))
    commonest = sorted(categories, key=lambda name: (-categories[name], name))[:_MOST_CATEGORIES]
    fullest = sorted(numbers, key=lambda name: (-len(numbers[name]), name))[:_MOST_NUMBERS]
    return ContentSpec(
        categories=tuple(sorted(commonest)),
        numbers=tuple(
            Number(name, float(np.mean(numbers[name])), float(np.std(numbers[name])) or 1.0) for name in sorted(fullest)
        ),
        text=fit_text([item.text_vector for item in items], text_width) if text_width else None,
    )


def content_vectors(spec: ContentSpec, items: Sequence[ItemContent]) -> NDArray[np.float32]:
    """Return float32[items, spec.width]: categories scaled to length 1, standardised numbers, then the text's part.

    What is unknown is 0.
    """
    place = {name: index for index, name in enumerate(spec.categories)}
    vectors = np.zeros((len(items), spec.width), dtype=np.float32)
    for vector, item in zip(vectors, items, strict=True):
        known = sorted({place[name] for name in item.categories if name in place})
        vector[known] = 1.0 / np.sqrt(max(len(known), 1))
        for index, number in enumerate(spec.numbers, start=len(place)):
            value = (item.attributes or {}).get(number.name)
            if value is not None and _is_number(value):
                vector[index] = (float(value) - number.mean) / number.deviation
    if spec.text is not None:
        vectors[:, -spec.text_width :] = text_columns(spec.text, [item.text_vector for item in items])
    return vectors


def _is_number(value: str | float | bool) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
