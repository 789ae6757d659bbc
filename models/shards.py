"""Weights of which each process holds parts."""

from collections.abc import Iterator

import torch
from torch import Tensor, distributed
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.shard import Shard

Weight = Tensor | ShardedTensor


def put(value: Weight, whole: Tensor) -> None:
    """Set a weight, this process's shards of it, from the whole."""
    if not isinstance(value, ShardedTensor):
        value.detach().copy_(whole)
        return
    for shard in value.local_shards():
        shard.tensor.detach().copy_(whole[_place(shard)])


def local_parts(value: Weight) -> list[Tensor]:
    """Return the parts of a weight that lie in this process; changing them changes the weight."""
    if isinstance(value, ShardedTensor):
        return [shard.tensor.detach() for shard in value.local_shards()]
    return [value.detach()]


def like(value: Weight, parts: Iterator[Tensor]) -> Weight:
    """Return a weight laid out as `value`, made of the next of `parts`."""
    if not isinstance(value, ShardedTensor):
        return next(parts)
    shards = [Shard(next(parts), shard.metadata) for shard in value.local_shards()]
    return ShardedTensor._init_from_local_shards_and_global_metadata(shards, value.metadata())


def _place(shard: Shard) -> tuple[slice, slice]:
    (row, column), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
    return slice(row, row + rows), slice(column, column + columns)


def whole(value: Weight, device: torch.device) -> Tensor:
    """Return a copy on the CPU, put together from all processes' shards on their `device`; all must make the call."""
    if not isinstance(value, ShardedTensor):
        return value.detach().cpu().clone()
    found = torch.zeros(value.size(), device=device)
    for shard in value.local_shards():
        found[_place(shard)] = shard.tensor.detach()
    distributed.all_reduce(found)
    return found.cpu()
