"""`cuda`: the DLRM on a CUDA device: samples/s, share of the memory bandwidth, the planner's plan; null without one.

A process of its own sees the device, so that everything else is measured on the CPU. The share is that of the bytes
which the embeddings must move in a step (rows read and their sums written going forward; gradients, rows and states
read, rows and states written going back) in the time of the whole step, over the bandwidth of copying on the device,
measured beside it.
"""

import time
from argparse import Namespace
from typing import Any

import torch
import training_dlrm
import training_model as model
from rich.console import Group, RenderableType
from training_processes import in_processes, tell

from models.sharding import process_group

KEY = "cuda"
_FLOAT, _COPIED, _COPIES = 4, 1 << 30, 20


def missing(options: Namespace) -> str:
    """Nothing is needed: without a device there is nothing to report, and that is said."""
    return ""


def run(options: Namespace) -> dict[str, Any] | None:
    """Measure in a new process; None without a device."""
    size = model.Size(options.tables, options.rows, options.batch)
    found: dict[str, Any] | None = in_processes(1, _measure, size, options.quick)
    return found


def table(report: dict[str, Any] | None) -> RenderableType:
    """Return the rates on the device."""
    if report is None:
        return "cuda: no device, nothing measured"
    bandwidth = (
        f"{report['device']}: copies {report['copy_bytes_per_s'] / 1e9:,.0f} GB/s; the embeddings of the fused model "
        f"move {report['embedding_bytes_a_step'] / 1e6:,.1f} MB a step, {report['bandwidth_share']:.2%} of that rate"
    )
    return Group(training_dlrm.table(report), bandwidth)


def _measure(_rank: int, folder: str, size: model.Size, quick: bool) -> None:
    """Be the process that sees the device."""
    tell(folder, _measured(size, quick) if torch.cuda.is_available() else None)


def _measured(size: model.Size, quick: bool) -> dict[str, Any]:
    with process_group():
        found = training_dlrm.compare(size, quick)
    fused = found["models"][training_dlrm.FUSED]["samples_per_s"]["median"]
    moved, copied = _moved(size), _copy_bandwidth()
    return found | {
        "device": torch.cuda.get_device_name(),
        "embedding_bytes_a_step": moved,
        "copy_bytes_per_s": copied,
        "bandwidth_share": moved * fused / size.batch / copied,
    }


def _moved(size: model.Size) -> int:
    """Return the bytes that a step's lookups and updates move, as if no row were drawn twice."""
    forward, backward = 2 * size.dim, 3 * size.dim + 2
    return size.tables * size.batch * (forward + backward) * _FLOAT


def _copy_bandwidth() -> float:
    """Return the bytes a second, read and written, of copies from the device to itself."""
    source = torch.zeros(_COPIED, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(_COPIES):
        target.copy_(source)
    torch.cuda.synchronize()
    return 2 * _COPIED * _COPIES / (time.perf_counter() - started)
