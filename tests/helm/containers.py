"""Turn what the chart renders of recommender and collector into what `podman kube play` runs on one machine.

Reads a rendering on standard input and writes pods and their ConfigMaps. What podman 4.3 cannot do is left out: ports
on the host's network, probes without curl in the image, preStop, volume claims, which become folders of the pod, and
Secrets, whose values are written out and whose files become those of a ConfigMap.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

_LEFT_OUT = ("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle")
_SERVICES = ("recommender", "collector")
_SECRET = "flywheel"


def playable(found: list[dict[str, Any]], secret: dict[str, str]) -> list[dict[str, Any]]:
    """Return the settings, the secret's files, and a pod for each of the two services."""
    settings = [one for one in found if one["kind"] == "ConfigMap" and one["metadata"]["name"].endswith("-settings")]
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": _SECRET}, "data": secret}
    workloads = [one for one in found if one["kind"] in ("Deployment", "StatefulSet") and _component(one) in _SERVICES]
    return [*settings, files, *(_pod(one, secret) for one in workloads)]


def _component(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


def _pod(workload: dict[str, Any], secret: dict[str, str]) -> dict[str, Any]:
    spec = workload["spec"]["template"]["spec"]
    for claim in workload["spec"].get("volumeClaimTemplates", []):
        spec["volumes"].append({"name": claim["metadata"]["name"], "emptyDir": {}})
    container = spec["containers"][0]
    for name in _LEFT_OUT:
        container.pop(name, None)
    container["imagePullPolicy"] = "Never"
    for entry in container["env"]:
        if "valueFrom" in entry:
            entry["value"] = secret.get(entry.pop("valueFrom")["secretKeyRef"]["key"], "not used by a service")
    for volume in spec["volumes"]:
        volume.get("emptyDir", {}).pop("sizeLimit", None)
        if "secret" in volume:
            volume["configMap"] = {"name": volume.pop("secret")["secretName"]}
    kept = {name: spec[name] for name in ("containers", "volumes", "securityContext", "terminationGracePeriodSeconds")}
    metadata = {"name": _component(workload), "labels": workload["spec"]["template"]["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**kept, "restartPolicy": "Never"}}


if __name__ == "__main__":
    keys_file, redis_url, erasure_key = sys.argv[1:]
    keys = Path(keys_file).read_text(encoding="utf-8")
    values = {"keys.json": keys, "redis-url": redis_url, "erasure-key": erasure_key}
    rendering = [one for one in yaml.safe_load_all(sys.stdin) if one]
    yaml.safe_dump_all(playable(rendering, values), sys.stdout)
