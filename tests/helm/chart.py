"""Rendering the chart."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from chart_programs import program

CHART = Path(__file__).parents[2] / "helm" / "flywheel"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
GOLDEN = Path(__file__).parent / "golden"

Manifest = dict[str, Any]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast


@dataclass
class Refused(Exception):
    """Helm did not render; `sentence` is why."""

    sentence: str


def values_of(case: str) -> Path:
    """Return the values file of a case."""
    return CHART / "ci" / f"{case}-values.yaml"


def rendered(*files: Path, release: str = "rel", sets: Sequence[str] = ()) -> str:
    """Return what `helm template` writes; raises Refused."""
    return _rendered(files, release, tuple(sets))


@cache
def _rendered(files: tuple[Path, ...], release: str, sets: tuple[str, ...]) -> str:
    arguments = [argument for file in files for argument in ("--values", str(file))]
    arguments += [
        argument for one in sets for argument in ("--set-json" if "=[" in one or "={" in one else "--set", one)
    ]
    done = subprocess.run(
        [program("helm"), "template", release, CHART, "--kube-version", "1.37.0", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def manifests(text: str) -> list[Manifest]:
    """Return the documents of a rendering; an empty one is not among them."""
    return [document for document in yaml.load_all(text, _LOADER) if document]


def case(name: str, **options: Any) -> list[Manifest]:
    """Return what a case renders."""
    return manifests(rendered(values_of(name), **options))


def pod_specs(found: Sequence[Manifest]) -> dict[str, Manifest]:
    """Return every pod's spec by kind and name of what makes it."""
    return {f"{one['kind']}/{one['metadata']['name']}": spec for one in found if (spec := _pod_template(one)["spec"])}


def pod_labels(found: Sequence[Manifest]) -> dict[str, dict[str, str]]:
    """Return every pod's labels by kind and name of what makes it."""
    return {
        f"{one['kind']}/{one['metadata']['name']}": template["metadata"]["labels"]
        for one in found
        if (template := _pod_template(one))["spec"]
    }


def _pod_template(manifest: Manifest) -> Manifest:
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Pod":
        return {"metadata": manifest["metadata"], "spec": spec}
    if manifest["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template = spec.get("template", {}) if manifest["kind"] in ("CronJob", "Deployment", "Job", "StatefulSet") else {}
    return {"metadata": template.get("metadata", {}), "spec": template.get("spec")}
