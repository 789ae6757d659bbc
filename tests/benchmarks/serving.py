"""Speed and memory of serving: a table to read and JSON with `--json`.

A made-up catalogue, users with histories in a real Valkey, a real Kafka, and the recommender as `flywheel serve` runs
it, one worker, on loopback. The model has the real shapes and untrained weights. CPU is counted by process, the load
generator's apart; wall times mean something on a quiet machine only, and the machine's load is printed.
Exit code 1 when a check failed, 0 otherwise.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import machine
from rich.console import Console

PARTS = ("retrieval", "stages", "served")


def main() -> int:
    """Run the chosen parts."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # In a file or a pipe, where nobody says how wide it is, the tables are not to be cut.
    options, console = _options(), Console(width=None if sys.stdout.isatty() else 140)
    started = time.perf_counter()
    report: dict[str, Any] = machine.describe() | {"quick": options.quick}
    parts = options.only or PARTS
    if "retrieval" in parts:
        _note(report, import_module("serving_retrieval"), console, options)
        machine.write(options.json, report)
    if {"stages", "served"} & set(parts):
        _on_the_world(report, parts, console, options)
    report["seconds"] = time.perf_counter() - started
    report["machine"]["load_at_end"] = [round(load, 2) for load in os.getloadavg()]
    machine.write(options.json, report)
    failed = [check for name in PARTS for check in report.get(name, {}).get("failed", [])]
    console.print(f"{report['seconds']:.0f} s; load {os.getloadavg()[0]:.1f}; failed: {'; '.join(failed) or 'none'}")
    return int(bool(failed))


def _on_the_world(report: dict[str, Any], parts: list[str], console: Console, options: argparse.Namespace) -> None:
    """Make world and model once, and run what is measured on them."""
    world_module: Any = import_module("serving_world")
    spec = world_module.WorldSpec(
        options.items, options.users, options.events, options.seed, time.time_ns() // 1_000_000
    )
    report["world"] = {"items": spec.items, "users": spec.users, "events": spec.events, "seed": spec.seed}
    report["world"]["interactions_in_kafka"] = options.interactions
    world = world_module.make_world(spec)
    home = Path(tempfile.mkdtemp(prefix="flywheel-serving-"))
    try:
        version, metrics = _model(home / "artifact", world)
        report["model"] = {"version": version, "weights": "untrained", **metrics}
        if "stages" in parts:
            _note(report, import_module("serving_stages"), console, options, world, home / "artifact")
            machine.write(options.json, report)
        if "served" in parts:
            stack: Any = import_module("serving_stack")
            with stack.running(home, world, home / "artifact", version, options) as up:
                served: Any = import_module("serving_served")
                report[served.KEY] = found = served.run(up, world, options)
                console.print(served.table(found))
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _model(folder: Path, world: Any) -> tuple[str, dict[str, float]]:
    model: Any = import_module("serving_model")
    config: Any = import_module("models.config")
    version = model.write_model(folder, world, config.ModelSettings())
    return version, json.loads((folder / "metrics.json").read_bytes())


def _note(report: dict[str, Any], part: Any, console: Console, options: argparse.Namespace, *inputs: Any) -> None:
    report[part.KEY] = found = part.run(options, *inputs)
    console.print(part.table(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="which, repeatable; all by default")
    parser.add_argument("--quick", action="store_true", help="a small world and loads of 3 s, to see that it works")
    parser.add_argument("--huge", action="store_true", help="retrieval from 10,000,000 vectors too; needs 12 GB")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each load, 30 by default")
    parser.add_argument("--rates", type=int, nargs="*", default=[100, 200, 300], help="of the open loops, requests/s")
    parser.add_argument("--soak", type=int, default=0, metavar="REQUESTS", help="so many more before memory is read")
    for name, default in (("items", 100_000), ("users", 50_000), ("events", 50), ("interactions", 100_000)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of the world, {default:,} by default")
    parser.add_argument("--workers", type=int, default=1, help="processes of the recommender, 1 by default")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.quick:
        options.items, options.users, options.interactions = 25_000, 1_000, 5_000
        options.seconds, options.rates = 3.0, [100]
    return options


if __name__ == "__main__":
    sys.exit(main())
