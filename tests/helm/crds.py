"""Fetch the custom resources that the chart can make, from the Go modules that publish them, without their prose.

Run `uv run python tests/helm/crds.py` to have other versions; what it writes to tests/helm/crds is committed.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent / "crds"
_PUBLISHED = {
    "github.com/kedacore/keda/v2@v2.21.0": (
        "config/crd/bases/keda.sh_scaledobjects.yaml",
        "config/crd/bases/keda.sh_triggerauthentications.yaml",
    ),
    "github.com/prometheus-operator/prometheus-operator@v0.85.0": (
        "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ),
    "github.com/kubeflow/spark-operator/v2@v2.5.1": (
        "config/crd/bases/sparkoperator.k8s.io_sparkapplications.yaml",
        "config/crd/bases/sparkoperator.k8s.io_scheduledsparkapplications.yaml",
    ),
    "sigs.k8s.io/gateway-api@v1.6.3": ("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",),
}


def main() -> None:
    """Write every definition."""
    FOLDER.mkdir(exist_ok=True)
    for module, files in _PUBLISHED.items():
        done = subprocess.run(
            ["go", "mod", "download", "-json", module],  # noqa: S607 - whichever Go is installed
            capture_output=True,
            check=True,
            env={**os.environ, "GOWORK": "off", "GOFLAGS": ""},
        )
        folder = Path(json.loads(done.stdout)["Dir"])
        for file in files:
            definition = _bare(yaml.safe_load((folder / file).read_text(encoding="utf-8")))
            definition["metadata"] = {
                "name": definition["metadata"]["name"],
                "annotations": _kept(definition["metadata"].get("annotations", {})) | {"flywheel.test/from": module},
            }
            text = json.dumps(definition, separators=(",", ":"), sort_keys=True)
            (FOLDER / Path(file).with_suffix(".json").name).write_text(text + "\n", encoding="utf-8")


def _kept(annotations: dict[str, str]) -> dict[str, str]:
    # A group of *.k8s.io is taken only with the approval that it was published with.
    return {name: value for name, value in annotations.items() if name == "api-approved.kubernetes.io"}


def _bare(node: Any) -> Any:
    """Return a schema without descriptions; a property that is called `description` stays."""
    if isinstance(node, dict):
        return {
            name: _bare(value) for name, value in node.items() if name != "description" or not isinstance(value, str)
        }
    return [_bare(one) for one in node] if isinstance(node, list) else node


if __name__ == "__main__":
    main()
