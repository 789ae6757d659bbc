"""What the chart renders, case by case: how much, exactly what, valid, and safe."""

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from chart import CASES, GOLDEN, Manifest, case, manifests, pod_labels, pod_specs, rendered, values_of
from chart_programs import program
from chart_schemas import KUBERNETES, write_schemas

COUNTS = {
    "default": {
        "ConfigMap": 1,
        "CronJob": 6,
        "Deployment": 3,
        "Job": 1,
        "NetworkPolicy": 6,
        "PodDisruptionBudget": 3,
        "Service": 3,
        "ServiceAccount": 1,
        "StatefulSet": 1,
    },
    "production": {
        "ConfigMap": 4,
        "CronJob": 7,
        "Deployment": 3,
        "HorizontalPodAutoscaler": 2,
        "Ingress": 1,
        "Job": 1,
        "NetworkPolicy": 7,
        "Pod": 1,
        "PodDisruptionBudget": 3,
        "PodMonitor": 2,
        "PrometheusRule": 1,
        "ScaledObject": 1,
        "Service": 4,
        "ServiceAccount": 1,
        "ServiceMonitor": 2,
        "StatefulSet": 1,
        "TriggerAuthentication": 1,
    },
    "small": {"ConfigMap": 2, "CronJob": 8, "Deployment": 3, "HTTPRoute": 2, "Job": 1, "Service": 2},
}
COUNTS["bento"] = COUNTS["default"]
COUNTS["spark-operator"] = COUNTS["default"] | {
    "CronJob": 2,
    "Deployment": 2,
    "NetworkPolicy": 12,
    "Role": 1,
    "RoleBinding": 1,
    "ScheduledSparkApplication": 4,
    "ServiceAccount": 2,
    "SparkApplication": 1,
}


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_schemas(tmp_path_factory.mktemp("schemas") / "all")


def check_schemas(text: str, schemas: str) -> tuple[int, dict[str, Any]]:
    how = ["-strict", "-summary", "-output", "json", "-kubernetes-version", KUBERNETES, "-schema-location", schemas]
    done = subprocess.run(
        [program("kubeconform"), *how],
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("name", CASES)
def test_a_case_renders_these_objects_and_no_others(name: str) -> None:
    assert Counter(one["kind"] for one in case(name)) == COUNTS[name]


@pytest.mark.parametrize("name", CASES)
def test_a_rendering_is_the_one_that_was_reviewed(name: str) -> None:
    """`uv run python tests/helm/chart_goldens.py` writes them anew; the diff is for review."""
    assert rendered(values_of(name)) == (GOLDEN / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_every_object_is_valid_by_the_strict_schema_of_its_kind(name: str, schemas: str) -> None:
    status, found = check_schemas(rendered(values_of(name)), schemas)
    assert (status, found.get("resources")) == (0, []), found
    assert found["summary"] == {"valid": sum(COUNTS[name].values()), "invalid": 0, "errors": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Deployment", ("spec", "replicas"), "two"),
        ("CronJob", ("spec", "concurrencypolicy"), "Forbid"),
        ("NetworkPolicy", ("spec", "podSelector", "matchLabel"), {}),
        ("ServiceMonitor", ("spec", "endpoint"), []),
        ("ScaledObject", ("spec", "maxReplicaCount"), "many"),
        ("PrometheusRule", ("spec", "groups", 0, "rule"), []),
    ],
)
def test_a_wrong_object_is_found_by_the_schemas(kind: str, path: tuple[Any, ...], value: Any, schemas: str) -> None:
    broken = next(one for one in case("production") if one["kind"] == kind)
    *parents, last = path
    node = broken
    for parent in parents:
        node = node[parent]
    node[last] = value
    status, found = check_schemas(yaml.safe_dump(broken), schemas)
    assert status == 1
    assert [one["kind"] for one in found["resources"]] == [kind]


@pytest.mark.parametrize("name", CASES)
def test_kube_score_finds_nothing_critical(name: str, tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    # Of a custom resource's pods it knows nothing, and a Bento's user is below its limit by BentoML's own choice.
    file.write_text(rendered(values_of(name)))
    ignored = [
        "container-image-pull-policy",
        *(["container-security-context-user-group-id"] if name == "bento" else []),
    ]
    ignored += ["pod-networkpolicy"] if name == "small" else []  # it says networkPolicy.enabled=false
    ignored += ["networkpolicy-targets-pod"] if name == "spark-operator" else []
    done = subprocess.run(
        [program("kube-score"), "score", file, "--output-format", "json", "--ignore-test", ",".join(ignored)],
        capture_output=True,
        text=True,
        check=False,
    )
    scored = json.loads(done.stdout)
    assert len(scored) >= 10
    critical = [
        (one["object_name"], check["check"]["id"], check["comments"])
        for one in scored
        for check in one["checks"] or []
        if check["grade"] == 1 and not check["skipped"]
    ]
    assert critical == []
    assert done.returncode == 0


@pytest.mark.parametrize("name", CASES)
def test_every_pod_is_safe(name: str) -> None:
    found = case(name)
    for where, spec in pod_specs(found).items():
        assert spec["automountServiceAccountToken"] is False, where
        assert spec["enableServiceLinks"] is False, where
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, where
        assert security["runAsUser"] == security["fsGroup"] > 1000, where
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, where
        volumes = {one["name"]: one for one in spec["volumes"]}
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, where
            assert set(container["resources"]) == {"requests", "limits"}, where
            mounted = {one["mountPath"]: volumes.get(one["name"]) for one in container["volumeMounts"]}
            bentoml = next(one["value"] for one in container["env"] if one["name"] == "BENTOML_HOME")
            for place in ("/tmp", str(Path(bentoml).parent)):  # noqa: S108 - a path in a container
                assert mounted[place]["emptyDir"]["sizeLimit"], where
            assert not re.search(r":latest$|^[^:@]+$", container["image"]), where


@pytest.mark.parametrize("name", [name for name in CASES if name != "small"])
def test_a_network_policy_covers_every_pod_those_of_jobs_included(name: str) -> None:
    found = case(name)
    policies = [one["spec"] for one in found if one["kind"] == "NetworkPolicy"]
    for where, labels in pod_labels(found).items():
        for direction in ("Ingress", "Egress"):
            assert any(
                one["podSelector"]["matchLabels"].items() <= labels.items()
                for one in policies
                if direction in one["policyTypes"]
            ), (where, direction)


@pytest.mark.parametrize("name", CASES)
def test_selectors_find_their_own_pods_and_no_others(name: str) -> None:
    found = case(name)
    labels = pod_labels(found)
    for one in found:
        if one["kind"] in ("Deployment", "StatefulSet"):
            matched = [
                where for where, of in labels.items() if one["spec"]["selector"]["matchLabels"].items() <= of.items()
            ]
            assert matched == [f"{one['kind']}/{one['metadata']['name']}"]
        if one["kind"] == "Service":
            assert any(one["spec"]["selector"].items() <= of.items() for of in labels.values()), one["metadata"]["name"]


def test_services_find_ports_that_their_pods_have() -> None:
    found = case("production")
    labels, specs = pod_labels(found), pod_specs(found)
    for service in (one for one in found if one["kind"] == "Service"):
        pods = [specs[where] for where, of in labels.items() if service["spec"]["selector"].items() <= of.items()]
        for port in service["spec"]["ports"]:
            if isinstance(port["targetPort"], str):
                assert all(
                    port["targetPort"] in {one["name"] for one in pod["containers"][0]["ports"]} for pod in pods
                ), service["metadata"]["name"]


def test_the_setup_job_needs_nothing_that_is_made_after_it() -> None:
    for name in CASES:
        found = case(name)
        hooks = [one for one in found if "helm.sh/hook" in one["metadata"].get("annotations", {})]
        setup = next(one for one in hooks if one["kind"] == "Job")
        assert setup["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
        later = {one["metadata"]["name"] for one in found if one not in hooks}
        text = json.dumps(setup["spec"]["template"]["spec"])
        spec = setup["spec"]["template"]["spec"]
        assert spec["serviceAccountName"] == ("shop-setup" if name == "production" else "default")
        assert spec["serviceAccountName"] not in later
        assert "configMap" not in text
        named = {one["name"] for one in spec["containers"][0]["env"]}
        config = next(one for one in found if one["metadata"]["name"].endswith("-settings"))
        assert set(config["data"]) <= named
        secrets = set(re.findall(r'"secretName": "([^"]+)"', text))
        assert secrets.isdisjoint(later)


def test_landing_runs_once() -> None:
    named = [one for one in case("default") if one["metadata"]["name"] == "rel-flywheel-landing"]
    assert [one["kind"] for one in named] == ["NetworkPolicy", "Deployment"]
    streaming = named[1]
    assert (streaming["kind"], streaming["spec"]["replicas"]) == ("Deployment", 1)
    assert streaming["spec"]["strategy"] == {"type": "Recreate"}
    clocked = [one for one in case("small") if one["metadata"]["name"] == "rel-flywheel-landing"]
    assert [one["kind"] for one in clocked] == ["CronJob"]
    assert clocked[0]["spec"]["concurrencyPolicy"] == "Forbid"
    assert pod_specs(clocked).popitem()[1]["containers"][0]["args"] == ["land", "--available-now"]


def test_spark_s_own_entry_point_runs_in_the_pods_of_spark_and_they_may_talk_among_themselves() -> None:
    found = case("spark-operator")
    among = {one["metadata"]["name"] for one in found if one["metadata"]["name"].endswith("-among")}
    applications = [one for one in found if one["kind"] in ("SparkApplication", "ScheduledSparkApplication")]
    assert len(applications) == 5
    for one in applications:
        spec = one["spec"]["template"] if one["kind"] == "ScheduledSparkApplication" else one["spec"]
        for part in ("driver", "executor"):
            (container,) = spec[part]["template"]["spec"]["containers"]
            assert not {"command", "args"} & set(container), one["metadata"]["name"]
            masters = [entry["value"] for entry in container["env"] if entry["name"] == "FLYWHEEL_LAKE__SPARK_MASTER"]
            assert masters == ["k8s://https://kubernetes.default.svc"]
        assert f"{one['metadata']['name']}-among" in among
    setup = next(one for one in found if one["metadata"]["name"].endswith("-setup") and one["kind"] == "Job")
    named = {entry["name"] for entry in setup["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert "FLYWHEEL_LAKE__SPARK_MASTER" not in named, "it has no token to ask for executors with"


def test_a_workload_that_is_scaled_says_no_replicas() -> None:
    found = {(one["kind"], one["metadata"]["name"]): one for one in case("production")}
    for kind, name in (("Deployment", "recommender"), ("StatefulSet", "collector"), ("Deployment", "updater")):
        assert "replicas" not in found[kind, f"rel-flywheel-{name}"]["spec"]


def test_a_change_of_settings_restarts_pods_and_a_change_of_surfaces_does_not() -> None:
    def checksum(*sets: str) -> str:
        text = rendered(values_of("production"), sets=sets)
        recommender = next(
            one
            for one in manifests(text)
            if one["kind"] == "Deployment" and one["metadata"]["name"].endswith("-recommender")
        )
        return str(recommender["spec"]["template"]["metadata"]["annotations"]["checksum/settings"])

    before = checksum()
    assert checksum("surfaces.home.diversity.relevance=0.5") == before
    assert checksum("settings.serving.explain_minutes=5") != before


@pytest.mark.parametrize(
    ("release", "prefix"),
    [
        ("flywheel", "flywheel"),
        ("shop", "shop-flywheel"),
        ("1st.shop", "r-1st-shop-flywheel-"),
        ("a" * 53, "a" * 25 + "-"),
    ],
)
def test_names_are_right_for_any_release(release: str, prefix: str) -> None:
    limits = {"CronJob": 52 - len("-0"), "StatefulSet": 52}  # a Job's pods have host names: JOB-INDEX
    for one in case("production", release=release):
        name = one["metadata"]["name"]
        assert name.startswith(prefix), name
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name), name
        assert len(name) <= limits.get(one["kind"], 63), name


def test_what_the_spark_operator_names_after_a_schedule_fits_in_a_label() -> None:
    names = [
        one["metadata"]["name"]
        for one in case("spark-operator", release="recommendations-production")
        if one["kind"] == "ScheduledSparkApplication"
    ]
    assert names
    assert max(map(len, names)) + len("-1234567890123456789") <= 63


def test_a_component_with_an_image_of_its_own_does_not_take_the_digest_of_another() -> None:
    shared = f"images.services.digest=sha256:{'a' * 64}"
    found = manifests(rendered(values_of("default"), sets=[shared, "collector.image.repository=r.example/mine"]))
    images = {
        one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"]["spec"]["containers"][0][
            "image"
        ]
        for one in found
        if one["kind"] in ("Deployment", "StatefulSet")
    }
    assert images["recommender"].endswith("@sha256:" + "a" * 64)
    assert images["collector"].startswith("r.example/mine:")


def test_two_releases_in_one_namespace_share_no_object_and_no_pod() -> None:
    long = "a-very-long-name-of-a-release-that-goes-on"
    for first, second in (("one", "two"), (f"{long}-one", f"{long}-two"), ("a.b", "a-b")):
        mine, theirs = case("production", release=first), case("production", release=second)
        assert _names(mine).isdisjoint(_names(theirs))
        selectors = [one["spec"]["selector"] for one in mine if one["kind"] == "Service"]
        selectors += [one["spec"]["podSelector"]["matchLabels"] for one in mine if one["kind"] == "NetworkPolicy"]
        for labels in pod_labels(theirs).values():
            assert not any(selector.items() <= labels.items() for selector in selectors)


def _names(found: list[Manifest]) -> set[tuple[str, str]]:
    return {(one["kind"], one["metadata"]["name"]) for one in found}
