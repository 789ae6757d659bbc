"""Labelled groups: for each query the candidates among which one or more were wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.sampling import POPULAR, UNIFORM
from models.columns import floats_of, millis_of, rows_of
from models.inputs import user_buckets
from models.ranking_features import UserValues
from models.vocabulary import Vocabulary

_SAMPLED = (UNIFORM, POPULAR)

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Groups:
    """Labelled candidates of queries, padded to the widest group: [groups] and [groups, candidates] arrays.

    `users` are codes of the log, `times` are ms; of `rows` those where `present` is False are padding. `sampled` says
    which candidates were drawn as negatives, of whom the loss must know how often they are drawn. `positions` says
    where on a slate a candidate was shown, from 0, and is -1 where it was not shown.
    """

    users: NDArray[np.int64]
    times: NDArray[np.int64]
    rows: NDArray[np.int64]
    present: NDArray[np.bool_]
    labels: NDArray[np.bool_]
    sampled: NDArray[np.bool_]
    positions: NDArray[np.int64]
    interactions_total: NDArray[np.float32]
    mean_value: NDArray[np.float32]
    user_values: Sequence[UserValues]
    user_attributes: Sequence[Mapping[str, str]]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def shown(self) -> NDArray[np.bool_]:
        """Which groups are slates, bool [groups]; the others are unprompted acts beside sampled negatives."""
        shown: NDArray[np.bool_] = np.any(self.positions >= 0, axis=1)
        return shown

    @property
    def source(self) -> str:
        """What the groups come from, in words."""
        shown = int(self.shown.sum())
        parts = {
            "impressions with labels": shown,
            "interactions with sampled negatives": len(self) - shown,
        }
        return " and ".join(f"{count} {name}" for name, count in parts.items() if count)

    def user_buckets(self, buckets: int) -> list[list[int]]:
        """Return the rows of the user table for each group's user."""
        return [user_buckets(attributes, buckets) for attributes in self.user_attributes]


def groups_of(examples: pa.Table, vocabulary: Vocabulary, users: Mapping[str, int], fill_value: float) -> Groups:
    """Return the examples table as groups in the order of time, without unknown users and items.

    `users` are the log's codes; `fill_value` stands for the mean value of an item that has none.
    """
    examples = _ordered(examples, vocabulary, users)
    ids = examples["group_id"].to_numpy(zero_copy_only=False).astype(str)
    first = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
    sizes = np.diff(np.append(first, len(ids)))
    at = _Places(np.repeat(np.arange(len(first)), sizes), np.arange(len(ids)) - np.repeat(first, sizes))
    heads = examples.take(first)
    features = heads.select(["interactions_total", "mean_value"]).to_pylist()
    return Groups(
        users=np.array([users[user] for user in heads["user_id"].to_pylist()], dtype=np.int64),
        times=millis_of(heads["event_timestamp"]).to_numpy() // 1000 * 1000,
        rows=at.spread(examples["row"].to_numpy()),
        present=at.spread(np.ones(len(ids), dtype=np.bool_)),
        labels=at.spread(examples["label"].to_numpy() > 0),
        sampled=at.spread(pc.is_in(examples["sampling"], value_set=pa.array(_SAMPLED)).to_numpy()),
        positions=at.spread(pc.fill_null(examples["position"].cast(pa.int64()), -1).to_numpy() + 1) - 1,
        interactions_total=at.spread(floats_of(examples["item_interactions_total"], 0.0)),
        mean_value=at.spread(floats_of(examples["item_mean_value"], fill_value)),
        user_values=[UserValues.of(row) for row in features],
        user_attributes=[{"attributes": text} if text else {} for text in heads["attributes"].to_pylist()],
    )


@dataclass(frozen=True)
class _Places:
    """Where each example lies in a [groups, candidates] table."""

    group: NDArray[np.int64]
    place: NDArray[np.int64]

    def spread(self, values: NDArray[Scalar]) -> NDArray[Scalar]:
        """Return the values as a table, padded with zeros."""
        shape = (int(self.group.max(initial=-1)) + 1, int(self.place.max(initial=-1)) + 1)
        table = np.zeros(shape, dtype=values.dtype)
        table[self.group, self.place] = values
        return table


def _ordered(examples: pa.Table, vocabulary: Vocabulary, users: Mapping[str, int]) -> pa.Table:
    known_user = pc.is_in(examples["user_id"], value_set=pa.array(list(users), pa.string()))
    examples = examples.append_column("row", pa.array(rows_of(examples["item_id"], vocabulary)))
    examples = examples.filter(pc.and_(pc.greater_equal(examples["row"], 0), known_user))
    order = (("event_timestamp", "ascending"), ("group_id", "ascending"), ("label", "descending"), ("row", "ascending"))
    return examples.sort_by(list(order))
