"""Speed and memory of training, by comparison: a table to read and JSON with `--json`.

Exit code 1 when a check of a comparison failed, 0 otherwise; a comparison whose data is not there is skipped by name.
The rows of `cuda` are measured on a CUDA device and are null without one; all others are of the CPU wherever it runs.
"""

import argparse
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import machine
from rich.console import Console

from models.before_torch import set_up_torch

COMPARISONS = ("cuda", "dlrm", "sequence", "rows", "scaling")
_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the chosen comparisons."""
    set_up_torch(os.environ)
    options, console, started = _options(), Console(), time.perf_counter()
    report: dict[str, Any] = machine.describe() | {"quick": options.quick, "skipped": {}, "cuda": None}
    for name in COMPARISONS:
        if name in (options.only or COMPARISONS):
            _compare(name, options, report, console)
            machine.write(options.json, report)
        if name == "cuda":
            # What follows is about the CPU, also where there is a GPU; nothing in this process has asked for one yet.
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
    report["seconds"] = time.perf_counter() - started
    machine.write(options.json, report)
    failed = [check for name in COMPARISONS for check in (report.get(name) or {}).get("failed", [])]
    console.print(f"{report['seconds']:.0f} s; failed checks: {'; '.join(failed) or 'none'}")
    return int(bool(failed))


def _compare(name: str, options: argparse.Namespace, report: dict[str, Any], console: Console) -> None:
    """Run one comparison; its module is imported only now, since torch reads the environment when it is imported."""
    comparison: Any = import_module(f"training_{name}")
    if why := comparison.missing(options):
        report["skipped"][name] = why
        console.print(f"comparison {name} skipped: {why}")
        return
    report[comparison.KEY] = found = comparison.run(options)
    console.print(comparison.table(found))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=COMPARISONS, help="which, repeatable; all by default")
    parser.add_argument("--quick", action="store_true", help="a version of minutes: fewer rounds, part of an epoch")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--ml1m", type=Path, default=_ROOT.parent / "shared/data/ml-1m.txt.gz", metavar="PATH")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads over all processes")
    for name, default in (("tables", 26), ("rows", 100_000), ("batch", 8_192)):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"of the DLRM, {default:,} by default")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
