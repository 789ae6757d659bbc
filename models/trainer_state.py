"""What another training can take over from a trainer, and forgetting single rows; the same for every layout of a table.

Row-wise Adagrad keeps one number a row, the sum of the mean squared gradients; a table cut by columns has one for each
part of a row, and then their mean stands for the row. A table that Adam updates has no such sums: they are zero.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard

from models.sharding import Sharded, device


@dataclass(frozen=True)
class TrainerState:
    """All weights by name and the optimiser's sums of the table's rows, float [rows].

    The moments of the dense weights' optimiser are left out: they follow the last few hundred gradients only.
    """

    weights: dict[str, Tensor]
    sums: Tensor


def take_state(sharded: Sharded, table: str) -> TrainerState:
    """Return copies on the CPU, in every process the whole; `table` names the table's weight."""
    live = sharded.state_dict()
    if not isinstance(live["module"][table], ShardedTensor):
        return TrainerState(sharded.weights(), torch.zeros(len(live["module"][table])))
    rows = _rows(live, table)
    layout = live["module"][table].metadata().shards_metadata
    parts = len({shard.shard_offsets[1] for shard in layout})
    whole = torch.zeros(parts * rows, device=device())
    for shard in _sums(live, table):
        whole[_places(shard)] = shard.tensor.flatten()
    distributed.all_reduce(whole)
    return TrainerState(sharded.weights(), whole.reshape(parts, rows).mean(dim=0).cpu())


def put_state(sharded: Sharded, table: str, state: TrainerState) -> None:
    """Set all weights, their averages and the sums of the table's rows; raises KeyError when a weight is missing."""
    sharded.put_weights(state.weights)
    live = sharded.state_dict()
    for shard in _sums(live, table):
        values = state.sums[_places(shard).cpu() % _rows(live, table)]
        shard.tensor.copy_(values.reshape(shard.tensor.shape))


def forget_rows(sharded: Sharded, table: str, rows: NDArray[np.int64]) -> None:
    """Set the weights of `rows`, their averages and the optimiser's state to zero, as if nothing were learnt."""
    live = sharded.state_dict()
    forgotten = torch.from_numpy(rows).to(device())
    weights = [live[part][table] for part in ("module", "average") if live[part]]
    if not isinstance(live["module"][table], ShardedTensor):
        moments = live["optimizer"][f"dense.{table}"]
        for value in (*weights, moments["exp_avg"], moments["exp_avg_sq"]):
            value.detach()[forgotten] = 0.0
        return
    shards = [shard for value in weights for shard in value.local_shards()]
    for shard in (*shards, *_sums(live, table)):
        shard.tensor.detach()[torch.isin(_places(shard) % _rows(live, table), forgotten)] = 0.0


def _sums(live: dict[str, Any], table: str) -> list[Shard]:
    """Return the parts in this process, none where it holds nothing of the table."""
    return [shard for state in live["optimizer"].get(f"rows.{table}", {}).values() for shard in state.local_shards()]


def _rows(live: dict[str, Any], table: str) -> int:
    return int(live["module"][table].metadata().size[0])


def _places(shard: Shard) -> Tensor:
    """Return where the shard's rows lie; sums of a table cut by columns follow one another, a table's length each."""
    first, count = shard.metadata.shard_offsets[0], shard.metadata.shard_sizes[0]
    return torch.arange(first, first + count, device=device())
