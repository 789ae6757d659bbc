"""The lengths of embedding rows: rows that only grow are the first sign of a training that will not end well."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.distributed._shard.sharded_tensor.api import ShardedTensor

from models.sharding import device


def row_norms(tables: Mapping[str, Tensor | ShardedTensor]) -> dict[str, NDArray[np.float32]]:
    """Return the length of each row, float32 [rows] by table, put together from the shards; every process must call."""
    return {name: _norms(table) for name, table in tables.items()}


def _norms(table: Tensor | ShardedTensor) -> NDArray[np.float32]:
    if not isinstance(table, ShardedTensor):
        whole: NDArray[np.float32] = table.detach().float().norm(dim=1).cpu().numpy()
        return whole
    squares = torch.zeros(table.metadata().size[0], device=device())
    for shard in table.local_shards():
        first, part = shard.metadata.shard_offsets[0], shard.tensor.detach()
        # Column-wise shards each hold a part of every row.
        squares[first : first + len(part)] += part.float().square().sum(dim=1)
    distributed.all_reduce(squares)
    norms: NDArray[np.float32] = squares.sqrt().cpu().numpy()
    return norms
