"""A real Kubernetes API server with its controllers, without nodes: etcd, kube-apiserver, kube-controller-manager."""

import json
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from chart import CHART, Manifest
from chart_programs import program
from waiting import wait_until

from streaming.embedded.process import ChildProcess, Command

_CRDS = Path(__file__).parent / "crds"
_READY_S = 120
_TOO_EARLY = 429
_PATIENCE = ("--timeout", "60s")
_PRIORITY = {
    "apiVersion": "scheduling.k8s.io/v1",
    "kind": "PriorityClass",
    "metadata": {"name": "production"},
    "value": 9,
}
_KINDS = {
    "apps/v1": ("deployments", "statefulsets", "replicasets"),
    "autoscaling/v2": ("horizontalpodautoscalers",),
    "batch/v1": ("cronjobs", "jobs"),
    "gateway.networking.k8s.io/v1": ("httproutes",),
    "keda.sh/v1alpha1": ("scaledobjects", "triggerauthentications"),
    "monitoring.coreos.com/v1": ("servicemonitors", "podmonitors", "prometheusrules"),
    "networking.k8s.io/v1": ("networkpolicies", "ingresses"),
    "policy/v1": ("poddisruptionbudgets",),
    "rbac.authorization.k8s.io/v1": ("roles", "rolebindings"),
    "sparkoperator.k8s.io/v1beta2": ("sparkapplications", "scheduledsparkapplications"),
    "v1": ("configmaps", "persistentvolumeclaims", "pods", "secrets", "serviceaccounts", "services"),
}


@dataclass(frozen=True)
class Cluster:
    """The server's API, and Helm's way to it."""

    api: httpx.Client
    kubeconfig: Path
    folder: Path

    def helm(self, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Helm against the server; fails with what Helm said."""
        home = {f"HELM_{name}_HOME": str(self.folder / "helm") for name in ("CACHE", "CONFIG", "DATA")}
        done = subprocess.run(
            [program("helm"), *arguments],
            env={**os.environ, **home, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def install(self, namespace: str, release: str, values: Path, *more: str) -> None:
        """Install the chart."""
        self.helm("install", release, CHART, "--namespace", namespace, "--values", values, *_PATIENCE, *more)

    def upgrade(self, namespace: str, release: str, values: Path, *more: str) -> None:
        """Upgrade a release."""
        self.helm("upgrade", release, CHART, "--namespace", namespace, "--values", values, *_PATIENCE, *more)

    def get(self, version: str, kind: str, namespace: str) -> list[Manifest]:
        """Return all objects of a kind in a namespace."""
        path = f"{_root(version)}/namespaces/{namespace}/{kind}"
        # Just after its definition a custom resource's storage is being made, and the server says to come back.
        answer = wait_until(lambda: (got := self.api.get(path)).status_code != _TOO_EARLY and got)
        answer.raise_for_status()
        return list(answer.json()["items"])

    def everything(self, namespace: str) -> dict[str, set[str]]:
        """Return the names of all objects in a namespace by kind, without those that Kubernetes makes in each."""
        found = {
            kind: {one["metadata"]["name"] for one in self.get(version, kind, namespace)}
            for version, kinds in _KINDS.items()
            for kind in kinds
        }
        found["configmaps"].discard("kube-root-ca.crt")
        found["serviceaccounts"] -= {"default", _HOOKS}
        return {kind: names for kind, names in found.items() if names}

    def make_namespace(self, name: str) -> None:
        """Make a namespace whose pods must keep to the `restricted` Pod Security level, with the account of hooks."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        self.api.post("/api/v1/namespaces", json=manifest).raise_for_status()
        accounts = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        wait_until(lambda: self.api.get(accounts).status_code == 200)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": _HOOKS}}
        self.api.post(f"/api/v1/namespaces/{name}/serviceaccounts", json=account).raise_for_status()

    def run_by_hand(self, namespace: str, cron_job: str, job: str) -> None:
        """Make a Job of a CronJob, as `kubectl create job --from` does."""
        path = f"{_root('batch/v1')}/namespaces/{namespace}"
        template = self.api.get(f"{path}/cronjobs/{cron_job}").json()["spec"]["jobTemplate"]
        metadata = {**template["metadata"], "name": job}
        self.api.post(f"{path}/jobs", json={"metadata": metadata, "spec": template["spec"]}).raise_for_status()

    def finish(self, pod: Manifest) -> None:
        """Say of a pod what a node says when its container ended well."""
        container = pod["spec"]["containers"][0]
        ended = {"exitCode": 0, "reason": "Completed", "startedAt": _NOW, "finishedAt": _NOW}
        status = {
            "phase": "Succeeded",
            "containerStatuses": [
                {
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"terminated": ended},
                }
            ],
        }
        metadata = pod["metadata"]
        self.api.patch(
            f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status",
            json={"status": status},
            headers={"content-type": "application/strategic-merge-patch+json"},
        )


_NOW = "2026-01-01T00:00:00Z"
_HOOKS = "shop-setup"  # as ci/production-values.yaml names it


class Finisher:
    """In place of a node: lets the pods of some components end well, and notes what was there when each began."""

    def __init__(self, cluster: Cluster, namespace: str, components: Sequence[str]) -> None:
        self.seen: dict[str, dict[str, set[str]]] = {}
        self._cluster, self._namespace, self._components = cluster, namespace, components
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="finisher", daemon=True)

    def __enter__(self) -> "Finisher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            for pod in self._cluster.get("v1", "pods", self._namespace):
                component = pod["metadata"]["labels"].get("app.kubernetes.io/component")
                if component in self._components and pod["status"]["phase"] == "Pending":
                    self.seen.setdefault(pod["metadata"]["name"], self._cluster.everything(self._namespace))
                    self._cluster.finish(pod)


@contextmanager
def running_cluster(folder: Path) -> Iterator[Cluster]:
    """Start the three programs and define the custom resources; stop them afterwards."""
    etcd, server, manager = (program(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager"))
    client_port, peer_port, port = _free_ports(3)
    token, key = secrets.token_hex(16), folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)  # noqa: S607
    (folder / "tokens.csv").write_text(f"{token},tester,tester,system:masters\n", encoding="utf-8")
    with ExitStack() as running:

        def start(name: str, *arguments: str) -> ChildProcess:
            command = Command(name, arguments, os.environ, folder / f"{name}.log")
            child = ChildProcess.start(command)
            running.callback(child.stop)
            return child

        client, peer = f"http://127.0.0.1:{client_port}", f"http://127.0.0.1:{peer_port}"
        start(
            "etcd", str(etcd), "--data-dir", str(folder / "etcd"), "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
            "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
        )  # fmt: skip
        started = time.monotonic()
        serving = start(
            "kube-apiserver", str(server), f"--etcd-servers={client}", f"--secure-port={port}",
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
            f"--cert-dir={folder}", "--service-cluster-ip-range=10.96.0.0/24", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", f"--token-auth-file={folder}/tokens.csv",
        )  # fmt: skip
        certificate = folder / "apiserver.crt"
        serving.wait_ready(certificate.exists, _READY_S)
        headers = {"authorization": f"Bearer {token}"}
        address = f"https://127.0.0.1:{port}"
        # The server's certificate signs itself and is made for another name than its address.
        api = running.enter_context(httpx.Client(base_url=address, verify=False, headers=headers, timeout=30))  # noqa: S501
        serving.wait_ready(lambda: _ready(api), _READY_S)
        print(f"the API server was ready after {time.monotonic() - started:.1f} s")  # noqa: T201
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(address, token)), encoding="utf-8")
        start(
            "kube-controller-manager", str(manager), f"--kubeconfig={kubeconfig}", "--leader-elect=false",
            "--secure-port=0", f"--service-account-private-key-file={key}", "--use-service-account-credentials=false",
        )  # fmt: skip
        cluster = Cluster(api, kubeconfig, folder)
        _define_resources(cluster)
        yield cluster


def _define_resources(cluster: Cluster) -> None:
    path = f"{_root('apiextensions.k8s.io/v1')}/customresourcedefinitions"
    for file in sorted(_CRDS.glob("*.json")):
        cluster.api.post(path, json=json.loads(file.read_text(encoding="utf-8"))).raise_for_status()

    def established() -> bool:
        return all(
            any(
                one["type"] == "Established" and one["status"] == "True"
                for one in item.get("status", {}).get("conditions") or []
            )
            for item in cluster.api.get(path).json()["items"]
        )

    wait_until(established)
    # Of the production case; a pod that names one that is not there is refused.
    cluster.api.post(f"{_root('scheduling.k8s.io/v1')}/priorityclasses", json=_PRIORITY).raise_for_status()


def _kubeconfig(address: str, token: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": address, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }


def _ready(api: httpx.Client) -> bool:
    try:
        return api.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


def _root(version: str) -> str:
    return f"/api/{version}" if version == "v1" else f"/apis/{version}"
