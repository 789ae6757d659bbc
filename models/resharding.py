"""Reading a checkpoint into tables that are laid out otherwise than those that were saved.

torch.distributed.checkpoint joins and cuts what has an element for each weight. Row-wise Adagrad has one for each row
of each shard: the sum over the steps of the mean square of the row's gradients *in the shard's columns*. So a table cut
into columns has several for a row, saved one shard after another, and in another cut they would be other numbers:

- into wider shards, the mean over the columns is exactly what the wider shard would have summed from those gradients;
- into narrower ones, the columns' own sums are not known, and each takes that of the shard it was part of, which keeps
  the size of its next step.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict_loader import load

Columns = list[tuple[int, int]]
"""First column and number of columns of each cut of a table, ascending."""


@dataclass(frozen=True)
class _Recut:
    """Accumulators, called `name` in the checkpoint and `key` among those of `weight`, of a table cut anew."""

    weight: str
    key: str
    name: str
    table: ShardedTensor
    accumulators: ShardedTensor
    saved: Columns


def read(state: dict[str, Any], path: Path, root: str) -> None:
    """Fill the tensors of a `Sharded`'s state from what a checkpoint holds under `root`, in whatever layout it was.

    Every process must make the same call. Raises CheckpointException when something is missing or of another shape.
    """
    saved = FileSystemReader(path).read_metadata().state_dict_metadata
    recuts = list(_recuts(state, saved, root))
    skipped = {(recut.weight, recut.key) for recut in recuts}
    rows = {
        weight: {key: value for key, value in values.items() if (weight, key) not in skipped}
        for weight, values in state["optimizer"].items()
    }
    whole = {recut.name: torch.empty(saved[recut.name].size) for recut in recuts}  # type: ignore[union-attr]
    wanted: dict[str, Any] = {root: state | {"optimizer": rows}}
    load(wanted | whole, checkpoint_id=path)
    state["steps"] = wanted[root]["steps"]
    for recut in recuts:
        _spread(whole[recut.name], recut)


def _recuts(state: Mapping[str, Any], saved: Mapping[str, Any], root: str) -> Iterator[_Recut]:
    for weight, table in state["module"].items():
        if isinstance(table, ShardedTensor):
            there = _columns((chunk.offsets[1], chunk.sizes[1]) for chunk in saved[f"{root}.module.{weight}"].chunks)
            here = _columns((one.shard_offsets[1], one.shard_sizes[1]) for one in table.metadata().shards_metadata)
            rows = f"rows.{weight}"
            for key, accumulators in state["optimizer"].get(rows, {}).items():  # none where no shard lies here
                if here != there:
                    yield _Recut(rows, key, f"{root}.optimizer.{rows}.{key}", table, accumulators, there)


def _columns(cuts: Iterable[tuple[int, int]]) -> Columns:
    return sorted(set(cuts))


def _spread(whole: Tensor, recut: _Recut) -> None:
    """Put into this process's shards what they have of the saved accumulators, float [cuts * rows]."""
    by_cut = whole.reshape(len(recut.saved), -1).double()
    for shard, own in zip(recut.table.local_shards(), recut.accumulators.local_shards(), strict=True):
        (row, column), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
        shares = [_overlap(cut, (column, columns)) / columns for cut in recut.saved]
        mean = torch.tensor(shares, dtype=torch.float64) @ by_cut[:, row : row + rows]
        own.tensor.copy_(mean)


def _overlap(cut: tuple[int, int], other: tuple[int, int]) -> int:
    return max(0, min(sum(cut), sum(other)) - max(cut[0], other[0]))
