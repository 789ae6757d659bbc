"""JSON schemas of everything that the chart renders, for kubeconform: Kubernetes' own, and the custom resources'."""

import json
from importlib.metadata import files
from pathlib import Path
from typing import Any

KUBERNETES = "1.37.0"
_LOCATION = "{{ .NormalizedKubernetesVersion }}-standalone{{ .StrictSuffix }}/{{ .ResourceKind }}{{ .KindSuffix }}.json"
_CRDS = Path(__file__).parent / "crds"


def write_schemas(folder: Path) -> str:
    """Write the schemas into a folder; returns kubeconform's `-schema-location`.

    What the package `kubernetes-validate` holds names itself by web addresses, which kubeconform would ask.
    """
    marker = f"v{KUBERNETES}-local-strict/deployment-apps-v1.json"
    found = next(file for file in files("kubernetes-validate") or () if str(file).endswith(marker))
    target = folder / f"v{KUBERNETES}-standalone-strict"
    target.mkdir(parents=True)
    for source in Path(str(found.locate())).parent.glob("*.json"):
        schema = _relative(json.loads(source.read_text(encoding="utf-8")))
        schema.pop("$id", None)
        (target / source.name).write_text(json.dumps(schema), encoding="utf-8")
    for definition in _definitions():
        group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
        for version in definition["spec"]["versions"]:
            schema = _strict(version["schema"]["openAPIV3Schema"])
            name = f"{kind}-{group.partition('.')[0]}-{version['name']}.json".lower()
            (target / name).write_text(json.dumps(schema), encoding="utf-8")
    return f"{folder}/{_LOCATION}"


def _definitions() -> list[Any]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(_CRDS.glob("*.json"))]


def _relative(node: Any) -> Any:
    """Return a schema whose references are to files beside it."""
    if isinstance(node, dict):
        return {
            name: value.rpartition("/api/")[2] if name == "$ref" and "/api/" in value else _relative(value)
            for name, value in node.items()
        }
    return [_relative(one) for one in node] if isinstance(node, list) else node


def _strict(node: Any) -> Any:
    """Return a custom resource's schema that takes no unknown fields, as a server with strict validation."""
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    strict = {name: _strict(value) for name, value in node.items()}
    open_ended = node.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in node
    if "properties" in node and isinstance(node["properties"], dict) and not open_ended:
        strict["additionalProperties"] = False
    return strict
