"""Quality of the models beside baselines, by suite: a table to read and JSON with `--json`.

Exit code 1 when a check of a suite failed, 0 otherwise; a suite whose data is not there is skipped by name.
"""
# ruff: noqa: E402 - torch reads what is set up when it is imported

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import machine

from models.before_torch import set_up_torch

set_up_torch(os.environ)

import augmentation
import augmentation_table
import cold
import cold_table
import curve
import curve_table
import ml1m
import ml1m_table
import open_bandit
import ranking
import ranking_table
from rich.console import Console

SUITES = {
    "ml1m": (ml1m, ml1m_table.table),
    "curve": (curve, curve_table.table),
    "cold": (cold, cold_table.table),
    "augmentation": (augmentation, augmentation_table.table),
    "ranking": (ranking, ranking_table.table),
    "open-bandit": (open_bandit, open_bandit.table),
}
_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Run the chosen suites."""
    options, console, started = _options(), Console(), time.perf_counter()
    report: dict[str, Any] = machine.describe() | {"quick": options.quick, "skipped": {}}
    save = partial(_save, options.json, report)
    for name in options.suite or SUITES:
        suite, table = SUITES[name]
        if why := suite.missing(options):
            report["skipped"][name] = why
            console.print(f"suite {name} skipped: {why}")
            continue
        found = suite.run(options, partial(save, suite.KEY))
        save(suite.KEY, found)
        console.print(table(found))
    report["seconds"] = time.perf_counter() - started
    machine.write(options.json, report)
    failed = [name for suite, _ in SUITES.values() for name in report.get(suite.KEY, {}).get("failed", [])]
    console.print(f"{report['seconds']:.0f} s; failed checks: {', '.join(failed) or 'none'}")
    return int(bool(failed))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", action="append", choices=sorted(SUITES), help="which, repeatable; all by default")
    parser.add_argument("--ml1m", type=Path, default=_ROOT.parent / "shared/data/ml-1m.txt.gz", metavar="PATH")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each seeded model; 0 = baselines alone")
    parser.add_argument("--quick", action="store_true", help="a version of minutes")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _save(path: Path | None, report: dict[str, Any], key: str, found: dict[str, Any]) -> None:
    """Keep what a suite has so far, so that an interrupted run leaves it."""
    report[key] = found
    machine.write(path, report)


if __name__ == "__main__":
    sys.exit(main())
