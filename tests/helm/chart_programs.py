"""The Go programs that tests of the chart use; `tests/helm/tools.sh` builds them."""

import os
import re
from pathlib import Path

import pytest

_SCRIPT = Path(__file__).with_name("tools.sh")
_VERSION_OF = {"etcd": "KUBERNETES", "kube-apiserver": "KUBERNETES", "kube-controller-manager": "KUBERNETES"}


def program(name: str) -> Path:
    """Return a program; skips the test that wants it where it was not built, or fails it with CHART_TOOLS=required."""
    path = _folder() / f"{name}-{version(name)}"
    if not path.exists():
        missing = f"{path.name} is not built: run tests/helm/tools.sh"
        if os.environ.get("CHART_TOOLS") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    return path


def version(name: str) -> str:
    """Return the version of a program that the script builds."""
    variable = _VERSION_OF.get(name, name.upper().replace("-", "_"))
    found = re.search(rf"^{variable}=(\S+)$", _SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, f"{_SCRIPT.name} does not name {variable}"
    return found[1]


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "flywheel" / "tools"
