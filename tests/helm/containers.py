"""Turn what the chart renders of recommender and collector into what `podman kube play` runs on one machine.

Reads a rendering on standard input and writes pods and their ConfigMaps. What podman 4.3 cannot do is left out: ports
on the host's network, probes without curl in the image, preStop, and volume claims, which become folders of the pod.
"""

import base64
import sys
from pathlib import Path
from typing import Any

import yaml

_LEFT_OUT = ("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle")


def playable(found: list[dict[str, Any]], secrets: dict[str, dict[str, str]]) -> list[dict[str, Any]]:
    """Return the settings, the secrets, and a pod for each of the two services."""
    settings = [one for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-settings")]
    pods = [_pod(one) for one in found if one["kind"] in ("Deployment", "StatefulSet") and _component(one) in _SERVICES]
    return [*settings, *(_secret(name, data) for name, data in secrets.items()), *pods]


_SERVICES = ("recommender", "collector")


def _component(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def _pod(workload: dict[str, Any]) -> dict[str, Any]:
    spec = workload["spec"]["template"]["spec"]
    for claim in workload["spec"].get("volumeClaimTemplates", []):
        spec["volumes"].append({"name": claim["metadata"]["name"], "emptyDir": {}})
    container = spec["containers"][0]
    for name in _LEFT_OUT:
        container.pop(name, None)
    container["imagePullPolicy"] = "Never"
    for volume in spec["volumes"]:
        volume.get("emptyDir", {}).pop("sizeLimit", None)
    kept = {name: spec[name] for name in ("containers", "volumes", "securityContext", "terminationGracePeriodSeconds")}
    metadata = {"name": _component(workload), "labels": workload["spec"]["template"]["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**kept, "restartPolicy": "Never"}}


def _secret(name: str, data: dict[str, str]) -> dict[str, Any]:
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}


if __name__ == "__main__":
    keys_file, redis_url = sys.argv[1:]
    secret = {"keys.json": Path(keys_file).read_text(encoding="utf-8"), "redis-url": redis_url}
    rendering = [one for one in yaml.safe_load_all(sys.stdin) if one]
    yaml.safe_dump_all(playable(rendering, {"flywheel": secret}), sys.stdout)
