"""`scaling`: how the time of a fused DLRM's step grows from 1 to 10 times the rows and from 1 to 2 processes.

One or two new gloo processes share the same threads and the same batch, so that two on one machine show what sharding
costs, not what more cores would give. Both sizes are in each process and take turns in short rounds; one and two
processes alternate too. All start from the same weights and see the same batches: the losses of one and of two
processes must agree step by step. There are fewer tables where the copies that set-up makes would not fit in memory.
"""

import statistics
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import training_model as model
from rich.console import RenderableType
from rich.table import Table
from torch import distributed
from training_dlrm import plan, summary
from training_processes import in_processes, tell
from training_rounds import alternate, shown, spread

from models.sharding import is_first, limited_threads, total

KEY = "scaling"
_WORLDS, _TIMES = (1, 2), 10
_SEED, _BATCHES, _TOLERANCE = 7, 4, 1e-3
_MEMORY_SHARE, _COPIES = 0.6, 5  # two processes each draw the tables and keep a copy of that, beside their shards


def missing(options: Namespace) -> str:
    """Nothing is needed."""
    return ""


def run(options: Namespace) -> dict[str, Any]:
    """Measure every number of processes at both sizes."""
    tables = _tables_that_fit(options)
    sizes = [model.Size(tables, options.rows * times, options.batch) for times in (1, _TIMES)]
    repeats = [[_processes(world, sizes, options) for world in _WORLDS] for _ in range(1 if options.quick else 3)]
    cells = [
        _cell([repeat[place] for repeat in repeats], number, size)
        for place in range(len(_WORLDS))
        for number, size in enumerate(sizes)
    ]
    apart = max(
        _apart(*(run["losses"][number] for run in repeat)) for repeat in repeats for number in range(len(sizes))
    )
    return {
        "tables": tables,
        "batch": options.batch,
        "cells": cells,
        "loss_difference": apart,
        "failed": [] if apart <= _TOLERANCE else [f"losses of 1 and 2 processes within {_TOLERANCE:g}"],
    }


def table(report: dict[str, Any]) -> RenderableType:
    """Return the step times and how they grow."""
    base = report["cells"][0]["step_ms"]["median"]
    found = Table(
        title=f"Fused DLRM: {report['tables']} tables, d16, B = {report['batch']:,} over all processes",
        caption=f"median (lowest to highest); losses of 1 and 2 processes apart by at most "
        f"{report['loss_difference']:.1e} in {len(report['cells'][0]['losses'])} steps",
    )
    for name in ("processes", "threads each", "rows a table", "ms a step", "times the first", "plan"):
        found.add_column(name)
    for cell in report["cells"]:
        times = f"{cell['step_ms']['median'] / base:.2f}"
        first = (str(cell["processes"]), str(cell["threads_each"]), f"{cell['size']['rows']:,}")
        found.add_row(*first, shown(cell["step_ms"], ".1f"), times, summary(cell["plan"]))
    return found


def _tables_that_fit(options: Namespace) -> int:
    rows = options.rows * (1 + _TIMES)
    table = _COPIES * rows * (model.Size(1, rows, 1).dim + 1) * 4
    return max(2, min(int(options.tables), int(_MEMORY_SHARE * _free_bytes() / table)))


def _free_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1_024 for line in lines if line.startswith("MemAvailable"))


def _processes(world: int, sizes: list[model.Size], options: Namespace) -> dict[str, Any]:
    """Measure in so many new processes; returns what the first of them found."""
    each = max(1, options.threads // world)
    found: dict[str, Any] = in_processes(world, _measure, world, each, sizes, options.quick)
    return found | {"processes": world, "threads_each": each}


def _measure(rank: int, folder: str, world: int, threads: int, sizes: list[model.Size], quick: bool) -> None:
    """Be one of the processes."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    with limited_threads(threads):
        found = _measured([_Steps(size) for size in sizes], quick)
    if is_first():
        tell(folder, found)
    distributed.destroy_process_group()


class _Steps:
    """Steps of the model of one size, and their losses over all processes."""

    def __init__(self, size: model.Size) -> None:
        torch.manual_seed(_SEED)
        self._batches = model.samples(size, _BATCHES, _SEED)
        self.sharded = model.fused(model.FusedTask(size))
        self.losses: list[float] = []

    def __call__(self, number: int) -> None:
        own = self.sharded.step(self._batches[number % _BATCHES], 1.0)
        self.losses.append(total(own) / distributed.get_world_size())


def _measured(steps: list[_Steps], quick: bool) -> dict[str, Any]:
    rounds, length = (3, 3) if quick else (8, 5)
    seconds = alternate({str(number): each for number, each in enumerate(steps)}, rounds, length)
    return {
        "seconds": list(seconds.values()),
        "losses": [each.losses for each in steps],
        "plans": [plan(each.sharded) for each in steps],
    }


def _cell(runs: list[dict[str, Any]], number: int, size: model.Size) -> dict[str, Any]:
    """Return what the repeated runs of so many processes found for one size."""
    first = runs[0]
    return {
        "processes": first["processes"],
        "threads_each": first["threads_each"],
        "size": asdict(size),
        "step_ms": spread(1_000 * value for run in runs for value in run["seconds"][number]),
        "repeats_ms": [1_000 * statistics.median(run["seconds"][number]) for run in runs],
        "losses": first["losses"][number],
        "plan": first["plans"][number],
    }


def _apart(alone: list[float], together: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(alone, together, strict=True))
