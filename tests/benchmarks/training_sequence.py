"""`sequence`: seconds of a pass of the sequence model over ML-1M, in float32 and with products in bfloat16.

d 64, 2 blocks, windows of 200, softmax over the whole catalogue, on x₁ … xₙ₋₂ of every user, as training has it. The
seconds are the mean time of a step, batch making included and the first step left out, times the steps of a pass. When
quick they are an estimate from some steps in random order; otherwise every step is taken, twice, in turns.
"""

import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from training_rounds import shown, spread

from models.config import RetrievalSettings
from models.progress import Step
from models.sequence_model import fit_sequence_model
from models.sequences import Sequences, read_sequences

KEY = "sequence"
_SETTINGS = RetrievalSettings(dim=64, blocks=2, length=200, epochs=1)
_PRECISIONS = {"float32": False, "bfloat16": True}
_SEED, _QUICK_STEPS, _PASSES = 7, 20, 2


class _Enough(Exception):
    """As many steps as wanted were taken."""


class _Clock:
    """Notes when each step of a pass is done; raises _Enough after `wanted` steps, if that is not 0."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._times: list[float] = []
        self.steps_a_pass = 0

    def __call__(self, step: Step) -> None:
        self._times.append(time.perf_counter())
        self.steps_a_pass = step.steps
        if len(self._times) == self._wanted:
            raise _Enough

    @property
    def steps(self) -> int:
        """The number of timed steps."""
        return len(self._times) - 1

    @property
    def pass_seconds(self) -> float:
        """The seconds that a pass takes."""
        return (self._times[-1] - self._times[0]) / self.steps * self.steps_a_pass


def missing(options: Namespace) -> str:
    """Return why it cannot run here, or nothing."""
    return "" if options.ml1m.is_file() else f"{options.ml1m} is not there"


def run(options: Namespace) -> dict[str, Any]:
    """Measure both precisions."""
    training = read_sequences(options.ml1m).training()
    clocks: dict[str, list[_Clock]] = {name: [] for name in _PRECISIONS}
    for _ in range(1 if options.quick else _PASSES):
        for name, bfloat16 in _PRECISIONS.items():
            clocks[name].append(_timed(training, bfloat16, options))
    first = clocks["float32"][0]
    return {
        "settings": _SETTINGS.model_dump(exclude={"bfloat16"}),
        "threads": options.threads,
        "data": {"users": training.users, "items": training.items, "events": len(training.rows)},
        "estimated": options.quick,
        "timed_steps": first.steps,
        "steps_a_pass": first.steps_a_pass,
        "epoch_seconds": {name: spread(clock.pass_seconds for clock in each) for name, each in clocks.items()},
        "processor_has_bfloat16": _processor_has_bfloat16(),
        "failed": [],
    }


def table(report: dict[str, Any]) -> RenderableType:
    """Return the seconds of a pass."""
    data, steps = report["data"], f"{report['timed_steps']} of {report['steps_a_pass']} steps"
    how = f"estimated from {steps}" if report["estimated"] else f"measured on {steps}"
    hardware = "has" if report["processor_has_bfloat16"] else "has no"
    found = Table(
        title=f"Sequence model, ML-1M ({data['events']:,} events, {data['items']:,} items): seconds a pass, {how}",
        caption=f"{report['threads']} threads; the processor {hardware} instructions for bfloat16",
    )
    for name in ("products in", "s a pass", "events/s"):
        found.add_column(name)
    for name, row in report["epoch_seconds"].items():
        found.add_row(name, shown(row, ".1f"), f"{data['events'] / row['median']:,.0f}")
    return found


def _timed(training: Sequences, bfloat16: bool, options: Namespace) -> _Clock:
    clock = _Clock(1 + _QUICK_STEPS if options.quick else 0)
    settings = _SETTINGS.model_copy(update={"bfloat16": bfloat16})
    with suppress(_Enough):
        fit_sequence_model(training, settings, _SEED, options.threads, clock)
    return clock


def _processor_has_bfloat16() -> bool:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return bool({"avx512_bf16", "amx_bf16"}.intersection(flags))
