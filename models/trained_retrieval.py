"""The sequence model as training leaves it. Torch without torchrec."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inputs import shared_row
from models.retrieval import RetrievalModel
from streaming.ids import ItemId

Rows = NDArray[np.int64]

_AT_ONCE = 256  # histories


@dataclass(frozen=True)
class Read:
    """What the tower reads of one history, int64 [events] each, newest last: item rows, codes of kinds, gap buckets."""

    rows: Rows
    kinds: Rows
    gaps: Rows


@dataclass(frozen=True)
class TrainedRetrieval:
    """The servable model, its table float [rows, dim], and the vectors float [items + shared rows, dim].

    The last vectors are the shared rows', for what is not in the catalogue.
    """

    model: RetrievalModel
    table: Tensor
    vectors: Tensor
    length: int

    def user_vectors(self, rows: Rows, kinds: Rows, gaps: Rows, last: Rows) -> NDArray[np.float32]:
        """Return float32 [batch, dim] for histories int64 [batch, length], padded at the end, last place `last`."""
        with torch.no_grad():
            items = self.vectors[torch.from_numpy(rows)]
            inputs = self.model.inputs(items, torch.from_numpy(kinds), torch.from_numpy(gaps))
            vectors: NDArray[np.float32] = self.model.tower(inputs, torch.from_numpy(last)).numpy()
        return vectors

    def vectors_of(self, histories: Sequence[Read]) -> NDArray[np.float32]:
        """Return float32 [histories, dim]; no history may be empty or longer than `length`."""
        found = [np.zeros((0, self.vectors.shape[1]), dtype=np.float32)]
        for start in range(0, len(histories), _AT_ONCE):
            some = histories[start : start + _AT_ONCE]
            rows = np.zeros((len(some), self.length), dtype=np.int64)
            kinds, gaps = np.zeros_like(rows), np.zeros_like(rows)
            for number, read in enumerate(some):
                size = len(read.rows)
                rows[number, :size], kinds[number, :size], gaps[number, :size] = read.rows, read.kinds, read.gaps
            last = np.array([len(read.rows) - 1 for read in some], dtype=np.int64)
            found.append(self.user_vectors(rows, kinds, gaps, last))
        return np.concatenate(found)

    def cold_vectors(self, item_ids: Sequence[ItemId], content: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return float32 [items, dim]: the vectors that the catalogue's items would have if they were new."""
        shared = self.vectors[len(item_ids) :]
        own = shared[[shared_row(item_id, len(shared)) for item_id in item_ids]]
        with torch.no_grad():
            vectors: NDArray[np.float32] = self.model.item_vectors(own, torch.from_numpy(content)).numpy()
        return vectors
