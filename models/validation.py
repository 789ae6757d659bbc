"""What settings are chosen on: training data that ends before a slice of time, and the slice, which ends at the cut."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from models.columns import millis_of
from models.dataset import NotEnoughData, Tables, TrainingData, organic, training_data
from models.slices import Slice, slice_of

_SHARE = 0.1
_USERS = 2_000


@dataclass(frozen=True)
class Validation:
    """Training data before `part.start` and the slice from there to the cut; nothing after the cut is in either."""

    data: TrainingData
    part: Slice


def validation(tables: Mapping[str, pa.Table], until: int, seed: int) -> Validation:
    """Cut the last tenth off the interactions before `until`, ms; `tables` are the trainer's and `user_features`.

    At most 2,000 of the users who can be asked about are asked about, drawn by `seed`. Raises NotEnoughData.
    """
    interactions = organic(tables["interactions"], until)
    if not len(interactions):
        raise NotEnoughData("there is no interaction to tune on: send events and run `flywheel land` first")
    start = int(np.quantile(millis_of(interactions["happened_at"]).to_numpy(), 1 - _SHARE))
    others = {name: tables[name] for name in ("items", "item_features", "examples")}
    data = training_data(Tables(interactions, **others, until=start))
    part = slice_of(interactions, tables["user_features"], start)
    cases = [case for case in part.cases() if case.seen]
    if not cases:
        raise NotEnoughData(
            "nobody in the last tenth of the interactions has a history and a new item: land more first"
        )
    drawn = np.random.default_rng(seed).permutation(len(cases))[:_USERS]
    return Validation(data, part.followed_by({cases[index].user_id: cases[index].targets for index in sorted(drawn)}))
