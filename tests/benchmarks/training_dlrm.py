"""`dlrm`: samples/s of a DLRM on fused table-batched embeddings and on plain dense-gradient `nn.EmbeddingBag`.

One process. Both have the same dense part, the same starting weights and the same batches, drawn beforehand; they
take turns in short rounds, and each round gives a rate and a ratio. The plain model is measured with the arithmetic of
the fused one (row-wise Adagrad), whose losses must agree, and with SGD, the least that an optimiser can do.
"""

from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from typing import Any

import torch
import training_model as model
from rich.console import RenderableType
from rich.table import Table
from training_rounds import Seconds, alternate, shown, spread

from models.sharding import Sharded, limited_threads, process_group

KEY = "dlrm"
FUSED, _SAME, _CHEAPEST = "fused, row-wise Adagrad", "plain, row-wise Adagrad", "plain, SGD"
_LEAST_RATIO, _TOLERANCE = 2.0, 1e-3
_SEED, _BATCHES = 7, 8


def missing(options: Namespace) -> str:
    """Nothing is needed."""
    return ""


def run(options: Namespace) -> dict[str, Any]:
    """Measure on this machine's CPU."""
    size = model.Size(options.tables, options.rows, options.batch)
    with process_group(), limited_threads(options.threads):
        return {"threads": options.threads} | compare(size, options.quick)


def compare(size: model.Size, quick: bool) -> dict[str, Any]:
    """Measure on the device of this process, which is alone in its group."""
    torch.manual_seed(_SEED)
    batches, task = model.samples(size, _BATCHES, _SEED), model.FusedTask(size)
    plain = {
        _SAME: model.Plain(model.PlainTask(task), model.row_wise_adagrad),
        _CHEAPEST: model.Plain(model.PlainTask(task), model.sgd),
    }
    sharded = model.fused(task)
    losses: dict[str, list[float]] = {FUSED: [], _SAME: []}
    steps = {
        FUSED: lambda number: losses[FUSED].append(sharded.step(batches[number % _BATCHES], 1.0)),
        _SAME: lambda number: losses[_SAME].append(plain[_SAME].step(batches[number % _BATCHES])),
        _CHEAPEST: lambda number: plain[_CHEAPEST].step(batches[number % _BATCHES]),
    }
    seconds = alternate(steps, *((3, 3) if quick else (15, 5)))
    apart = max(abs(one - other) for one, other in zip(losses[FUSED], losses[_SAME], strict=True))
    return _report(size, seconds, apart) | {"plan": plan(sharded)}


def plan(sharded: Sharded) -> dict[str, dict[str, Any]]:
    """Return how the planner laid out each table."""
    return {
        name: {"sharding": place.sharding_type, "kernel": place.compute_kernel, "ranks": list(place.ranks)}
        for tables in sharded.plan.plan.values()
        for name, place in tables.items()
    }


def summary(plan: dict[str, dict[str, Any]]) -> str:
    """Return a plan in a line: how many tables are laid out in each way."""
    counts = Counter(f"{row['sharding']} {row['kernel']} on {row['ranks']}" for row in plan.values())
    return ", ".join(f"{count} tables {layout}" for layout, count in counts.items())


def table(report: dict[str, Any]) -> RenderableType:
    """Return the rates and the ratios."""
    size = report["size"]
    found = Table(
        title=f"DLRM: {size['tables']} tables of {size['rows']:,} rows, d{size['dim']}, B = {size['batch']:,}",
        caption=f"{report['rounds']} rounds each, median (lowest to highest); plan: {summary(report['plan'])}; losses "
        f"of the first two apart by at most {report['loss_difference']:.1e}",
    )
    for name in ("model", "samples/s", "ms a step", "fused is faster by"):
        found.add_column(name)
    for name, row in report["models"].items():
        ratio = shown(report["ratios"][name], ".2f") if name in report["ratios"] else ""
        found.add_row(name, shown(row["samples_per_s"], ",.0f"), shown(row["step_ms"], ".1f"), ratio)
    return found


def _report(size: model.Size, seconds: Seconds, apart: float) -> dict[str, Any]:
    ratios = {
        name: spread(own / fused for own, fused in zip(seconds[name], seconds[FUSED], strict=True))
        for name in (_SAME, _CHEAPEST)
    }
    checks = {
        f"fused at least {_LEAST_RATIO:g} times {_SAME}": ratios[_SAME]["median"] >= _LEAST_RATIO,
        f"fused at least {_LEAST_RATIO:g} times {_CHEAPEST}": ratios[_CHEAPEST]["median"] >= _LEAST_RATIO,
        f"losses of fused and {_SAME} within {_TOLERANCE:g}": apart <= _TOLERANCE,
    }
    return {
        "size": asdict(size),
        "dense_layers": {"bottom": [model.NUMBERS, *model.BOTTOM, size.dim], "top": [*model.TOP, 1]},
        "models": {
            name: {
                "samples_per_s": spread(size.batch / value for value in values),
                "step_ms": spread(1_000 * value for value in values),
            }
            for name, values in seconds.items()
        },
        "ratios": ratios,
        "rounds": len(seconds[FUSED]),
        "loss_difference": apart,
        "failed": [name for name, passed in checks.items() if not passed],
    }
