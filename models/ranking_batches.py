"""Batches for the ranker: a step's queries with everything that its network and its losses read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchrec import KeyedJaggedTensor

from models.config import RankingSettings
from models.content import ItemContent
from models.device_batch import DeviceBatch
from models.groups import Groups
from models.inputs import CATEGORY_TABLE, ITEM_TABLE, USER_TABLE, category_buckets, item_bucket
from models.ranking_dataset import RankingData
from models.sharding import own_part

_FORGOTTEN = 0.15  # share of candidates trained without their item's own embedding, as new items are scored

Bag = Sequence[int]


@dataclass(frozen=True)
class Batch(DeviceBatch):
    """One process's part of a step: float [queries, candidates, width] inputs, the others [queries, candidates].

    `vectors` are the candidates' item vectors, `history` those of the newest items, float [queries, places, width], of
    which `attended`, bool [queries, places], are no padding. `corrections` is the log of how often a candidate is
    expected in a group, 0 where it is no sampled one. `positions` is where a candidate was shown, 0 where it was not.
    `converted` holds the conversions' labels, float [queries, candidates, tasks], of which `trained` count. `weights`,
    float [queries], sum to 1 over all processes' parts.
    """

    dense: Tensor
    vectors: Tensor
    history: Tensor
    attended: Tensor
    items: KeyedJaggedTensor
    users: KeyedJaggedTensor
    corrections: Tensor
    positions: Tensor
    present: Tensor
    labels: Tensor
    converted: Tensor
    trained: Tensor
    weights: Tensor


class Batches:
    """Puts batches together."""

    def __init__(self, settings: RankingSettings, items: Sequence[ItemContent], data: RankingData) -> None:
        groups = data.groups
        self._groups, self._data = groups, data
        self._item_bags = [item_bucket(item.item_id, settings.buckets) for item in items]
        self._category_bags = [category_buckets(item.categories, settings.buckets) for item in items]
        self._user_bags = groups.user_buckets(settings.buckets)
        self._corrections = _corrections(groups, len(items))
        self._weights = _query_weights(groups.users[data.group])
        self._trained = data.conversions.known & ~data.conversions.held_out

    def batch(self, part: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """Return this process's part of the queries `part`."""
        data, groups = self._data, self._groups
        forgotten = rng.random((len(part), groups.rows.shape[1])) < _FORGOTTEN
        own = own_part(len(part))
        weights = self._weights[part] / self._weights[part].sum()
        queries, forgotten = part[own], forgotten[own]
        mine = data.group[queries]
        rows, recent = groups.rows[mine], data.recent[queries]
        return Batch(
            dense=torch.from_numpy(data.dense[queries]),
            vectors=torch.from_numpy(np.where(forgotten[..., None], data.cold[rows], data.vectors[rows])),
            history=torch.from_numpy(data.vectors[recent]),
            attended=torch.from_numpy(recent >= 0),
            items=self._items(rows, forgotten),
            users=jagged({USER_TABLE: [self._user_bags[group] for group in mine]}),
            corrections=torch.from_numpy(self._corrections[mine]),
            positions=torch.from_numpy(np.maximum(groups.positions[mine], 0)),
            present=torch.from_numpy(groups.present[mine]),
            labels=torch.from_numpy(groups.labels[mine]),
            converted=torch.from_numpy(data.conversions.labels[mine].astype(np.float32)),
            trained=torch.from_numpy(self._trained[mine]),
            weights=torch.from_numpy(weights[own]).float(),
        )

    def _items(self, rows: NDArray[np.int64], forgotten: NDArray[np.bool_]) -> KeyedJaggedTensor:
        flat, without = rows.ravel().tolist(), forgotten.ravel().tolist()
        return jagged(
            {
                ITEM_TABLE: [[] if gone else [self._item_bags[row]] for row, gone in zip(flat, without, strict=True)],
                CATEGORY_TABLE: [self._category_bags[row] for row in flat],
            }
        )


def jagged(bags: dict[str, list[Bag]]) -> KeyedJaggedTensor:
    """Return bags of rows by table."""
    lengths = [len(bag) for column in bags.values() for bag in column]
    values = [bucket for column in bags.values() for bag in column for bucket in bag]
    return KeyedJaggedTensor.from_lengths_sync(
        keys=list(bags), values=torch.tensor(values, dtype=torch.int64), lengths=torch.tensor(lengths)
    )


def _corrections(groups: Groups, items: int) -> NDArray[np.float32]:
    """Return the log of the mean number of times that each sampled candidate is in a group, as the groups show it."""
    drawn = np.bincount(groups.rows[groups.sampled], minlength=items) + 1.0
    expected = np.log(drawn / max(len(groups), 1))[groups.rows]
    return np.where(groups.sampled, expected, 0.0).astype(np.float32)


def _query_weights(users: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 1/sqrt(queries of the user): between every query and every user counting the same."""
    _, index, counts = np.unique(users, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / np.sqrt(counts[index])
    return weights
