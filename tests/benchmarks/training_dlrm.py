"""`dlrm`: samples/s of a DLRM on fused table-batched embeddings and on plain `nn.EmbeddingBag`.

One process. All have the same dense part, the same starting weights and the same batches, drawn beforehand; they take
turns in short rounds, and each round gives rates and ratios. The plain models have one `nn.EmbeddingBag` a table with
torch's defaults, so a gradient of the size of the table (all 26: 166 MB), which the backward pass fills with zeros and
adds to, and which the optimiser reads with all weights and states. They differ in that optimiser: row-wise Adagrad, the
arithmetic of the fused model, so that their losses must agree; SGD, the least that one can do; Adagrad and Adam, what
one would train with. Beside them stand sparse gradients, which few optimisers take, and the fused model with SGD, whose
losses must agree with plain SGD's: it tells the optimiser's share from the lookups'.

FBGEMM's wheel for the CPU is built without OpenMP, so that the fused tables work on one thread; torch's own kernels
have all of them.
"""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from typing import Any

import torch
import training_model as model
from rich.console import RenderableType
from rich.table import Table
from training_rounds import Seconds, alternate, shown, spread

from models.sharding import Sharded, limited_threads, process_group

KEY = "dlrm"
FUSED = "fused, row-wise Adagrad"
_FUSED_SGD = "fused, SGD"
_DENSE = {
    "plain, row-wise Adagrad": model.row_wise_adagrad,
    "plain, SGD": model.sgd,
    "plain, Adagrad": model.adagrad,
    "plain, Adagrad in one kernel": model.adagrad_in_one_kernel,
    "plain, Adam": model.adam,
    "plain, Adam in one kernel": model.adam_in_one_kernel,
}
_SPARSE = "plain, sparse SGD"
_SAME = {FUSED: "plain, row-wise Adagrad", _FUSED_SGD: "plain, SGD"}
"""The dense-gradient model with the arithmetic of each fused one."""

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
    takes: dict[str, Callable[[model.Samples], float]] = {
        name: model.Plain(model.PlainTask(task), optimizer).step for name, optimizer in _DENSE.items()
    }
    takes[_SPARSE] = model.Plain(model.PlainTask(task, sparse=True), model.sgd).step
    takes[_FUSED_SGD] = model.FusedSgd(deepcopy(task)).step
    sharded = model.fused(task)
    takes[FUSED] = lambda batch: sharded.step(batch, 1.0)
    losses: dict[str, list[float]] = {name: [] for name in takes}

    def step_of(name: str) -> Callable[[int], None]:
        return lambda number: losses[name].append(takes[name](batches[number % _BATCHES]))

    seconds = alternate({name: step_of(name) for name in (FUSED, _FUSED_SGD, *_DENSE, _SPARSE)}, *_rounds(quick))
    apart = {
        fused: max(abs(one - other) for one, other in zip(losses[fused], losses[plain], strict=True))
        for fused, plain in _SAME.items()
    }
    return _report(size, seconds, apart) | {"plan": plan(sharded)}


def _rounds(quick: bool) -> tuple[int, int]:
    return (3, 3) if quick else (15, 5)


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
    apart = "; ".join(f"{name}: {value:.1e}" for name, value in report["loss_differences"].items())
    found = Table(
        title=f"DLRM: {size['tables']} tables of {size['rows']:,} rows, d{size['dim']}, B = {size['batch']:,}",
        caption=f"{report['rounds']} rounds each, median (lowest to highest); plain has gradients of the tables' size "
        f"unless sparse; plan: {summary(report['plan'])}; largest difference of a loss to the same arithmetic, plain: "
        f"{apart}",
    )
    for name in ("model", "samples/s", "ms a step", f"times as long as {FUSED}", f"as {_FUSED_SGD}"):
        found.add_column(name)
    for name, row in report["models"].items():
        ratios = (shown(report["ratios"][fused][name], ".2f") for fused in _SAME)
        found.add_row(name, shown(row["samples_per_s"], ",.0f"), shown(row["step_ms"], ".1f"), *ratios)
    return found


def _report(size: model.Size, seconds: Seconds, apart: dict[str, float]) -> dict[str, Any]:
    ratios = {fused: {name: _ratio(seconds, name, fused) for name in seconds} for fused in _SAME}
    checks = {
        f"{FUSED} at least {_LEAST_RATIO:g} times {name}": ratios[FUSED][name]["median"] >= _LEAST_RATIO
        for name in _DENSE
    }
    checks |= {
        f"losses of {fused} and {_SAME[fused]} within {_TOLERANCE:g}": difference <= _TOLERANCE
        for fused, difference in apart.items()
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
        "loss_differences": apart,
        "checks": checks,
        "failed": [name for name, passed in checks.items() if not passed],
    }


def _ratio(seconds: Seconds, name: str, fused: str) -> dict[str, float]:
    """Return how many times as long a step takes as a fused one's in the same round."""
    return spread(own / other for own, other in zip(seconds[name], seconds[fused], strict=True))
