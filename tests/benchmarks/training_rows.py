"""`rows`: the bytes that an embedding row takes in training, by optimiser and kernel.

One table of each kind is made and takes one step that looks up every row. Its bytes a row are counted from the shapes
of weights, gradient and states, and checked against the formula and against the storages that module and optimiser
really hold. FBGEMM has no fused Adam on the CPU, so Adam is measured with dense gradients alone.
"""

from argparse import Namespace
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation
from fbgemm_gpu.split_table_batched_embeddings_ops_training import ComputeDevice, SplitTableBatchedEmbeddingBagsCodegen
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor, nn
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

KEY = "rows"
_DIMS, _FLOAT = (16, 64), 4
_TOLERANCE = 0.01  # of the bytes, for what a module holds beside its rows


@dataclass(frozen=True)
class _Held:
    """What is held after a step: the tensors that have a part for each row, and everything."""

    weights: list[Tensor]
    gradients: list[Tensor]
    states: list[Tensor]
    everything: list[Tensor]


@dataclass(frozen=True)
class _Kind:
    """An optimiser in a kernel; `floats` gives those of a row from its width."""

    optimizer: str
    kernel: str
    floats: Callable[[int], int]
    hold: Callable[[int, int], _Held]


def missing(options: Namespace) -> str:
    """Nothing is needed."""
    return ""


def run(options: Namespace) -> dict[str, Any]:
    """Count for all kinds and widths."""
    found = [_row(kind, options.rows, dim) for dim in _DIMS for kind in _kinds()]
    failed = [
        f"bytes a row of {row['optimizer']}, {row['kernel']}, d{row['dim']}" for row in found if not row["passed"]
    ]
    return {"rows": options.rows, "kinds": found, "tolerance": _TOLERANCE, "failed": failed}


def table(report: dict[str, Any]) -> RenderableType:
    """Return the bytes a row."""
    shown = Table(
        title=f"Bytes per embedding row in training, float32, a table of {report['rows']:,} rows",
        caption=f"measured: storages held after a step; passed: it and the sum within "
        f"{report['tolerance']:.0%} of the formula",
    )
    for name in ("optimiser", "kernel", "d", "weight", "gradient", "state", "formula", "measured", "passed"):
        shown.add_column(name)
    for row in report["kinds"]:
        counted = (f"{row[key]:.1f}" for key in ("weights", "gradient", "state", "formula", "measured"))
        shown.add_row(row["optimizer"], row["kernel"], str(row["dim"]), *counted, str(row["passed"]))
    return shown


def _kinds() -> list[_Kind]:
    fused, plain = "fused", "dense"
    return [
        _Kind("SGD", fused, lambda dim: dim, _fused(EmbOptimType.EXACT_SGD)),
        _Kind("row-wise Adagrad", fused, lambda dim: dim + 1, _fused(EmbOptimType.EXACT_ROWWISE_ADAGRAD)),
        _Kind("Adagrad", fused, lambda dim: 2 * dim, _fused(EmbOptimType.EXACT_ADAGRAD)),
        _Kind("SGD", plain, lambda dim: 2 * dim, _plain(torch.optim.SGD)),
        _Kind("row-wise Adagrad", plain, lambda dim: 2 * dim + 1, _plain(RowWiseAdagrad)),
        _Kind("Adagrad", plain, lambda dim: 3 * dim, _plain(torch.optim.Adagrad)),
        _Kind("Adam", plain, lambda dim: 4 * dim, _plain(torch.optim.Adam)),
    ]


def _row(kind: _Kind, rows: int, dim: int) -> dict[str, Any]:
    held = kind.hold(rows, dim)
    parts = {"weights": held.weights, "gradient": held.gradients, "state": held.states}
    counted = {name: sum(tensor.numel() * tensor.element_size() for tensor in part) for name, part in parts.items()}
    found = {name: value / rows for name, value in counted.items()}
    found |= {"sum": sum(found.values()), "formula": float(_FLOAT * kind.floats(dim))}
    found |= {"measured": _stored(held.everything) / rows}
    passed = all(abs(found[name] / found["formula"] - 1) <= _TOLERANCE for name in ("sum", "measured"))
    return {"optimizer": kind.optimizer, "kernel": kind.kernel, "dim": dim, **found, "passed": passed}


def _stored(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def _fused(optimizer: EmbOptimType) -> Callable[[int, int], _Held]:
    def hold(rows: int, dim: int) -> _Held:
        bags = SplitTableBatchedEmbeddingBagsCodegen(
            [(rows, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)], optimizer=optimizer, learning_rate=0.01
        )
        bags(torch.arange(rows), torch.arange(rows + 1)).sum().backward()
        states = [state for table in bags.split_optimizer_states() for state in table]
        gradients = [value.grad for value in bags.parameters() if value.grad is not None and value.grad.numel()]
        everything = [*bags.parameters(), *bags.buffers(), *gradients]
        return _Held(bags.split_embedding_weights(), gradients, states, everything)

    return hold


def _plain(optimizer: Callable[..., torch.optim.Optimizer]) -> Callable[[int, int], _Held]:
    def hold(rows: int, dim: int) -> _Held:
        bag = nn.EmbeddingBag(rows, dim, mode="sum")
        stepping = optimizer(bag.parameters(), lr=0.01)
        bag(torch.arange(rows).unsqueeze(1)).sum().backward()
        stepping.step()
        gradients = [value.grad for value in bag.parameters() if value.grad is not None]
        kept = [value for state in stepping.state.values() for value in state.values() if isinstance(value, Tensor)]
        states = [value for value in kept if value.numel() >= rows]
        return _Held([bag.weight], gradients, states, [*bag.parameters(), *gradients, *kept])

    return hold
