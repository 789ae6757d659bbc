"""What following the log has come to, in no model's rows, so that it can be kept and gone on from."""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.popularity import DayCounts
from services.recommend.item_table import ItemTable
from services.recommend.ragged import Texts


@dataclass(frozen=True)
class Offsets:
    """Up to where the catalogue and the popularity follow their topics: the next offset of each partition."""

    catalogue: dict[str, int]
    interactions: dict[str, int]


@dataclass(frozen=True)
class Uses:
    """How often items were used by day: the rows of `counts` are the places in `item_ids`.

    `lately` are the keys of the newest interactions, uint64[n], oldest first: sent again they do not count.
    """

    item_ids: Texts
    counts: DayCounts
    lately: NDArray[np.uint64]


@dataclass(frozen=True)
class Followed:
    """The catalogue and the uses, both as of `offsets`."""

    table: ItemTable
    uses: Uses
    offsets: Offsets


def event_key(event_id: str) -> int:
    """Return what is remembered of an event: 64 bits of a hash, the same in every process, never the id."""
    return int.from_bytes(hashlib.blake2b(event_id.encode(), digest_size=8).digest(), "little")
