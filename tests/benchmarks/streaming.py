"""Speed of the way in and of the slow path: a table to read and JSON with `--json`.

A real broker, Valkey, collector, history updater, recommender and Spark on loopback, each part on a stack of its own.
`--only PART` runs parts alone. Wall times mean something on a quiet machine only; the machine's load is printed.
Exit code 1 when an answer was wrong or missing, 0 otherwise: a speed that was aimed at and missed is shown, no failure.
"""

import argparse
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

PARTS = ("collector", "freshness", "updater", "landing")


def main() -> int:
    """Run the chosen parts."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    options, console = _options(), Console(width=None if sys.stdout.isatty() else 140)
    started = time.perf_counter()
    report: dict[str, Any] = machine.describe() | {"quick": options.quick}
    for name in options.only or PARTS:
        home = Path(tempfile.mkdtemp(prefix="flywheel-streaming-"))
        try:
            part: Any = import_module(f"streaming_{name}")
            report[name] = found = part.run(home, options)
            console.print(part.table(found))
        finally:
            shutil.rmtree(home, ignore_errors=True)
        machine.write(options.json, report)
    report["seconds"] = time.perf_counter() - started
    machine.write(options.json, report)
    failed = [problem for name in PARTS for problem in report.get(name, {}).get("failed", [])]
    console.print(f"{report['seconds']:.0f} s; load {os.getloadavg()[0]:.1f}; failed: {'; '.join(failed) or 'none'}")
    return int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="which, repeatable; all by default")
    parser.add_argument("--quick", action="store_true", help="small loads, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each load on the collector")
    parser.add_argument("--clicks", type=int, default=1_000, help="whose freshness is measured")
    parser.add_argument("--rate", type=float, default=20.0, help="requests/s and clicks/s beside them")
    parser.add_argument(
        "--events", type=int, default=10_000, help="of the slow path; ten and a hundred times as many follow"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.clicks, options.events = 3.0, 50, 1_000
    return options


if __name__ == "__main__":
    sys.exit(main())
