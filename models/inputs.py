"""From a history or a user's attributes to what the models read: the same for trainer and server. Numpy only."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.vocabulary import hashed

GAP_BUCKETS = 26
"""Buckets of time: bucket b holds gaps from 2^b - 1 seconds on; the last one everything above a year."""

USER_TABLE, CATEGORY_TABLE, ITEM_TABLE = "user", "category", "item"
"""The ranker's hashed embedding tables."""

_SHARED = "shared"


def gap_buckets(times_ms: NDArray[np.int64], as_of_ms: int) -> NDArray[np.int64]:
    """Return for each of a history's times, ascending, the bucket of the time until the next second with an event.

    For the last second that is the time of asking, `as_of_ms`. Events of one second get the same bucket, so that no
    order is read into them.
    """
    seconds = times_ms // 1000
    following = np.append(seconds, max(as_of_ms // 1000, int(seconds[-1]) if len(seconds) else 0))
    gaps = following[np.searchsorted(seconds, seconds, side="right")] - seconds
    buckets: NDArray[np.int64] = np.minimum(np.log2(1.0 + gaps).astype(np.int64), GAP_BUCKETS - 1)
    return buckets


def user_buckets(features: Mapping[str, float | str], buckets: int) -> list[int]:
    """Return the rows of the user table for the attributes in `features["attributes"]`, a JSON object; numbers by tens.

    No attributes, or something else than an object, give none.
    """
    text = features.get("attributes")
    return list(_attribute_buckets(text, buckets)) if isinstance(text, str) else []


@lru_cache(4_096)
def _attribute_buckets(text: str, buckets: int) -> tuple[int, ...]:
    try:
        attributes = msgspec.json.decode(text, type=dict[str, str | float | bool | None])
    except msgspec.DecodeError:
        return ()
    tokens = sorted(f"{name}={_token(value)}" for name, value in attributes.items() if value is not None)
    return tuple([hashed(USER_TABLE, token, buckets) for token in tokens])


def category_buckets(categories: Sequence[str], buckets: int) -> list[int]:
    """Return the rows of the category table for an item's categories."""
    return [hashed(CATEGORY_TABLE, name, buckets) for name in sorted(set(categories))]


def item_bucket(item_id: str, buckets: int) -> int:
    """Return the row of the item table for an item that the model is trained on."""
    return hashed(ITEM_TABLE, item_id, buckets)


def shared_row(item_id: str, count: int) -> int:
    """Return which of the sequence model's `count` shared rows stands for an item without a row of its own."""
    return hashed(_SHARED, item_id, count) if count > 1 else 0


def _token(value: str | float | bool) -> str:
    if isinstance(value, str | bool):
        return str(value)
    return str(math.floor(value / 10) * 10)
