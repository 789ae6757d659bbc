"""What a benchmark ran on, so that its figures can be read: machine, versions, command.

Imported first by every program here: `streaming.py` beside this file would hide the package of that name from them.
"""

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_HERE = str(Path(__file__).parent)
if sys.path[0] == _HERE:
    sys.path.append(sys.path.pop(0))
sys.path.append(str(Path(__file__).parents[1]))  # what all tests share

_PACKAGES = ("numpy", "scipy", "pandas", "implicit", "torch", "torchrec", "fbgemm-gpu-cpu")


def describe() -> dict[str, Any]:
    """Return the machine with its load of now, the versions and the command."""
    return {
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load": [round(load, 2) for load in os.getloadavg()],
            "threads": os.environ.get("OMP_NUM_THREADS", "not limited"),
        },
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "command": " ".join([Path(sys.executable).name, *sys.argv]),
    }


def write(path: Path | None, report: dict[str, Any]) -> None:
    """Write what a benchmark found so far as JSON, if there is a path."""
    if path:
        path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
