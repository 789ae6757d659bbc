"""The long fault suite: `uv run python tests/faults/fault_run.py --seeds 20 --json faults.json`.

Every seed is a run of its own with all faults, twice each, in random order. Finished seeds are kept in the JSON file
and not run again, so that it can be interrupted and gone on with. Exit code 1 when something did not hold.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))  # what all tests share

from fault_disk import own_mounts, small_disk
from fault_kinds import DISK_FAULTS, FAULTS
from fault_scenario import run_scenario

SMALL_DISKS = {"spool": 64, "lake": 512}
"""The folders of a home that get disks of their own, MB."""

_TWICE = 2


def main() -> None:
    """Run the seeds that have not been."""
    arguments, small_disks = _arguments(), own_mounts()
    if not small_disks:
        _say(f"left out, since this user may mount nothing: {', '.join(DISK_FAULTS)}")
    file = Path(arguments.json)
    done: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        if str(seed) in done and done[str(seed)].get("held"):
            continue
        done[str(seed)] = _one(seed, arguments, small_disks)
        file.write_text(json.dumps(done, indent=1))
    print(_table(done))
    sys.exit(0 if all(one["held"] for one in done.values()) else 1)


def _one(seed: int, arguments: argparse.Namespace, small_disks: bool) -> dict[str, Any]:
    possible = [*FAULTS, *(DISK_FAULTS if small_disks else ())]
    faults = arguments.faults.split(",") if arguments.faults else possible
    order = faults * _TWICE
    random.Random(seed).shuffle(order)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults", ignore_cleanup_errors=True) as folder, ExitStack() as disks:
        for name, megabytes in SMALL_DISKS.items() if small_disks else ():
            disks.enter_context(small_disk(Path(folder) / name, megabytes))
        try:
            outcome = run_scenario(Path(folder), seed, order, arguments.longest, _say)
        except AssertionError as error:
            if arguments.keep:
                shutil.copytree(folder, f"{folder}.kept")
            print(f"seed {seed} did not hold: {error}", file=sys.stderr, flush=True)
            return {"held": False, "problem": str(error), "seconds": round(time.monotonic() - began)}
    return {"held": True, "seconds": round(time.monotonic() - began), **asdict(outcome)}


def _table(done: dict[str, Any]) -> str:
    lines = ["| seed | held | faults | acknowledged | in Kafka | in the lake | s |", "|---|---|---|---|---|---|---|"]
    for seed, one in done.items():
        counts = one.get("counts", {})
        cells = [counts.get(name, "") for name in ("acknowledged", "in_log", "in_lake")]
        held = "yes" if one["held"] else one["problem"][:80]
        lines.append(
            f"| {seed} | {held} | {len(one.get('recovered', []))} | {' | '.join(map(str, cells))} | {one['seconds']} |"
        )
    slowest: dict[str, list[float]] = {}
    for one in done.values():
        for recovered in one.get("recovered", []):
            slowest.setdefault(recovered["fault"], []).append(recovered["up_to_date_s"])
    lines += ["", "| fault | times | recovery median s | worst s |", "|---|---|---|---|"]
    for fault, seconds in sorted(slowest.items()):
        lines.append(f"| {fault} | {len(seconds)} | {sorted(seconds)[len(seconds) // 2]} | {max(seconds)} |")
    return "\n".join(lines)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--faults", default="", help="comma-separated names; all if unset")
    parser.add_argument("--longest", type=float, default=15.0, help="most seconds that a fault lasts")
    parser.add_argument("--json", default="faults.json")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that did not hold")
    return parser.parse_args()


if __name__ == "__main__":
    main()
