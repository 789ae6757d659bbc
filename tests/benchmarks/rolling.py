"""The pipeline against baselines at rolling cuts of MovieLens-100K, each asked on the next 5 % of the events.

Up to each cut the events go through the real pipeline: published, landed, made features and a model, served, and
asked over HTTP, group by group with live histories (prequential) and once as of the cut (frozen). Each cut is a process
of its own; what it found stays in the work folder, and an interrupted run goes on from there. What is claimed, and how
it is added up, says `rolling_statistics.py`. Exit code 1 when the claim or a check failed.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import machine
import msgspec
import rolling_baselines
from rich.console import Console
from rolling_data import STEP, Baselines, Pipeline, baselines_file, keep, model_settings, pipeline_file
from rolling_statistics import compare
from rolling_table import table

from services.config import Settings

CUTS = tuple(range(50, 100, STEP))
QUICK = (CUTS[0], CUTS[-1])
_CUT = Path(__file__).with_name("rolling_cut.py")


def main() -> int:
    """Run the cuts that are missing, then compare."""
    options, console, started = _options(), Console(), time.perf_counter()
    cuts: tuple[int, ...] = options.cuts or (QUICK if options.quick else CUTS)
    report = machine.describe()
    options.work.mkdir(parents=True, exist_ok=True)
    pipelines = [_pipeline(options.work, percent, console) for percent in cuts]
    asked = sorted({*cuts, *(percent - STEP for percent in cuts)})
    baselines = {percent: _baselines(options.work, percent, console) for percent in asked}
    report |= {"complete": cuts == CUTS, "settings": pipelines[0].settings}
    report |= compare(pipelines, baselines, options.seed) | {"seconds": time.perf_counter() - started}
    report["failed"] = _failures(report)
    console.print(table(report))
    _say(report, console)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return int(bool(report["failed"]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="where each cut's figures are kept")
    parser.add_argument("--cuts", type=_percents, metavar="50,55,…", help="percent of the events; all ten by default")
    parser.add_argument("--quick", action="store_true", help=f"two cuts: {QUICK[0]} and {QUICK[1]} percent")
    parser.add_argument("--seed", type=int, default=7, help="of the bootstrap; FLYWHEEL_MODEL__SEED is the training's")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def _percents(text: str) -> tuple[int, ...]:
    """Return the cuts in order; argparse says what is wrong with the argument."""
    cuts = tuple(sorted({int(part) for part in text.split(",")}))
    if cuts[0] <= STEP or cuts[-1] > 100 - STEP:
        raise argparse.ArgumentTypeError(f"a cut lies above {STEP} and at {100 - STEP} or below")
    return cuts


def _pipeline(work: Path, percent: int, console: Console) -> Pipeline:
    """Return the pipeline's figures after a cut, from the work folder where they are known.

    Raises SystemExit, naming the log, when the cut's process failed, and when what is known is of other settings.
    """
    file, log = pipeline_file(work, percent), work / f"pipeline-{percent}.log"
    if not file.exists():
        console.print(f"cut {percent} %: the pipeline, see {log}")
        with log.open("w", encoding="utf-8") as output:
            command = [sys.executable, str(_CUT), str(percent), str(work)]
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise SystemExit(f"cut {percent} % failed with exit code {done.returncode}: see {log}")
    found = msgspec.json.decode(file.read_bytes(), type=Pipeline)
    if found.settings != model_settings(Settings()):
        raise SystemExit(f"{file} is of other model settings: give another folder with --work")
    return found


def _baselines(work: Path, percent: int, console: Console) -> Baselines:
    """Return the baselines' figures after a cut, from the work folder where they are known."""
    file = baselines_file(work, percent)
    if not file.exists():
        console.print(f"cut {percent} %: the baselines")
        keep(file, rolling_baselines.measure(percent))
    return msgspec.json.decode(file.read_bytes(), type=Baselines)


def _failures(report: dict[str, Any]) -> list[str]:
    """Return what failed: the claim, an account of the lake, or an answer that held a seen item."""
    failed = [] if report["claim"]["passed"] else ["claim"]
    failed += [f"balance at {cut['percent']} %" for cut in report["cuts"] if not cut["balanced"]]
    return failed + [f"seen items at {cut['percent']} %" for cut in report["cuts"] if cut["seen_rate"] > 0]


def _say(report: dict[str, Any], console: Console) -> None:
    """Print the claim in words."""
    claim, bootstrap = report["claim"], report["bootstrap"]
    console.print(
        f"prequential, pipeline {claim['pipeline_ndcg10']:.4f} minus {claim['baseline']} {claim['ndcg10']:.4f}: "
        f"{claim['difference']:+.4f} [{claim['low']:+.4f}, {claim['high']:+.4f}], {claim['users']} users, "
        f"{bootstrap['draws']:,} draws, seed {bootstrap['seed']}"
    )
    console.print(f"{'all' if report['complete'] else 'not all'} of the ten cuts; {report['seconds']:.0f} s")
    console.print(f"failed: {', '.join(report['failed']) or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
