"""The chart on a real Kubernetes API server with its controllers; there are no nodes, so no container runs."""

from collections.abc import Iterator

import pytest
from chart import CASES, CHART, Manifest, case, values_of
from chart_cluster import Cluster, Finisher, running_cluster
from waiting import wait_until

pytestmark = pytest.mark.timeout(600)
COMPONENT = "app.kubernetes.io/component"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def place(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """A namespace of this test alone."""
    name = (
        "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")[-40:].strip("-")
    )
    cluster.make_namespace(name)
    return name


def pods_of(cluster: Cluster, place: str, component: str) -> list[Manifest]:
    return [one for one in cluster.get("v1", "pods", place) if one["metadata"]["labels"].get(COMPONENT) == component]


def workloads(name: str) -> dict[str, int]:
    """How many pods each component of a case has: what it says, or the fewest of its HPA; KEDA is not here to scale."""
    found = case(name)
    fewest = {
        one["metadata"]["labels"][COMPONENT]: one["spec"]["minReplicas"]
        for one in found
        if one["kind"] == "HorizontalPodAutoscaler"
    }
    return {
        one["metadata"]["labels"][COMPONENT]: fewest.get(
            one["metadata"]["labels"][COMPONENT], one["spec"].get("replicas", 1)
        )
        for one in found
        if one["kind"] in ("Deployment", "StatefulSet")
    }


@pytest.mark.parametrize("name", CASES)
def test_the_server_takes_every_object_of_a_case(name: str, cluster: Cluster, place: str) -> None:
    cluster.install(place, "rel", values_of(name), "--dry-run=server")
    assert cluster.everything(place) == {}


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_installed_its_pods_are_admitted_and_nothing_is_left_of_it(
    name: str, cluster: Cluster, place: str
) -> None:
    with Finisher(cluster, place, ["setup"]) as finisher:
        cluster.install(place, "rel", values_of(name))
    (there,) = finisher.seen.values()
    assert set(there) == {"jobs", "pods", "secrets"} | ({"networkpolicies"} if name != "small" else set())
    assert there.get("networkpolicies", set()) <= {"rel-flywheel-setup"}

    for component, pods in workloads(name).items():
        wait_until(lambda of=component, pods=pods: len(pods_of(cluster, place, of)) == pods, 60)  # type: ignore[misc]
    failed = [event["message"] for event in cluster.get("v1", "events", place) if event["reason"] == "FailedCreate"]
    assert failed == []
    kinds = {"HorizontalPodAutoscaler": "horizontalpodautoscalers", "PodDisruptionBudget": "poddisruptionbudgets"}
    kinds |= {"CronJob": "cronjobs", "ScaledObject": "scaledobjects", "HTTPRoute": "httproutes"}
    there = cluster.everything(place)
    for kind, plural in kinds.items():
        assert there.get(plural, set()) == {one["metadata"]["name"] for one in case(name) if one["kind"] == kind}

    with Finisher(cluster, place, ["test"]) as finisher:
        cluster.helm("test", "rel", "--namespace", place)
    assert len(finisher.seen) == (1 if name == "production" else 0)

    cluster.helm("uninstall", "rel", "--namespace", place)
    spools = workloads(name)["collector"] if "persistentvolumeclaims" in there else 0
    kept = {"persistentvolumeclaims": {f"spool-rel-flywheel-collector-{n}" for n in range(spools)}} if spools else {}
    wait_until(lambda: cluster.everything(place) == kept, 120, lambda: str(cluster.everything(place)))


def test_two_releases_live_in_one_namespace(cluster: Cluster, place: str) -> None:
    with Finisher(cluster, place, ["setup"]):
        cluster.install(place, "one", values_of("default"))
        cluster.install(place, "two", values_of("default"), "--set", "settings.namespace=second")
    for release in ("one", "two"):
        wait_until(
            lambda release=release: (
                len(  # type: ignore[misc]
                    [
                        pod
                        for pod in pods_of(cluster, place, "recommender")
                        if pod["metadata"]["labels"]["app.kubernetes.io/instance"] == release
                    ]
                )
                == 2
            )
        )
    before = cluster.everything(place)
    cluster.helm("uninstall", "one", "--namespace", place)
    wait_until(lambda: not any(one.startswith("one") for one in cluster.everything(place)["pods"]), 120)
    after = cluster.everything(place)
    assert after["deployments"] == {one for one in before["deployments"] if one.startswith("two")}


def test_an_upgrade_changes_settings_and_a_rollback_takes_it_back(cluster: Cluster, place: str) -> None:
    def settings() -> dict[str, str]:
        maps = cluster.get("v1", "configmaps", place)
        return dict(next(one["data"] for one in maps if one["metadata"]["name"] == "rel-flywheel-settings"))

    def replicas() -> int:
        return int(
            next(
                one["spec"]["replicas"]
                for one in cluster.get("apps/v1", "deployments", place)
                if one["metadata"]["name"] == "rel-flywheel-recommender"
            )
        )

    with Finisher(cluster, place, ["setup"]):
        cluster.install(place, "rel", values_of("default"))
        before = settings()
        changed = ("--set", "recommender.replicas=3", "--set", "settings.serving.explain_minutes=5")
        cluster.upgrade(place, "rel", values_of("default"), *changed)
        assert (replicas(), settings()) == (3, before | {"FLYWHEEL_SERVING__EXPLAIN_MINUTES": "5"})
        cluster.helm("rollback", "rel", "1", "--namespace", place)
    assert (replicas(), settings()) == (2, before)


def test_a_cron_job_that_is_triggered_by_hand_makes_a_job_whose_pod_is_admitted(cluster: Cluster, place: str) -> None:
    with Finisher(cluster, place, ["setup", "promote"]):
        cluster.install(place, "rel", values_of("default"))
        cluster.run_by_hand(place, "rel-flywheel-promote", "by-hand")
        wait_until(
            lambda: any(
                one["metadata"]["name"] == "by-hand" and one["status"].get("succeeded") == 1
                for one in cluster.get("batch/v1", "jobs", place)
            )
        )


def test_a_training_of_several_pods_gives_each_its_place(cluster: Cluster, place: str) -> None:
    with Finisher(cluster, place, ["setup"]):
        cluster.install(place, "rel", values_of("default"), "--set", "train.pods=2,train.gpus=1")
    cluster.run_by_hand(place, "rel-flywheel-train", "training")
    pods = wait_until(lambda: len(found := pods_of(cluster, place, "train")) == 2 and found)
    assert {one["spec"]["hostname"] for one in pods} == {"training-0", "training-1"}
    assert {one["spec"]["subdomain"] for one in pods} == {"rel-flywheel-train"}
    for pod in pods:
        assert pod["metadata"]["labels"]["batch.kubernetes.io/job-name"] == "training"
        index = pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]
        assert pod["spec"]["hostname"] == f"training-{index}"


def test_collectors_that_are_taken_away_have_their_volumes_drained(cluster: Cluster, place: str) -> None:
    with Finisher(cluster, place, ["setup", "drain"]) as finisher:
        cluster.install(place, "rel", values_of("default"), "--set", "collector.replicas=4")
        wait_until(lambda: len(cluster.get("v1", "persistentvolumeclaims", place)) == 4)
        cluster.upgrade(place, "rel", values_of("default"), "--set", "collector.replicas=2")
    drained = sorted(name.rpartition("-")[0] for name in finisher.seen if "-drain-" in name)
    assert drained == ["rel-flywheel-drain-2", "rel-flywheel-drain-3"]
    with Finisher(cluster, place, ["setup", "drain"]) as finisher:
        cluster.upgrade(place, "rel", values_of("default"), "--set", "collector.spool.enabled=false")
    drained = sorted(name.rpartition("-")[0] for name in finisher.seen if "-drain-" in name)
    assert drained == [f"rel-flywheel-drain-{number}" for number in range(4)]
    assert len(cluster.get("v1", "persistentvolumeclaims", place)) == 4


def test_a_release_with_a_broken_value_changes_nothing(cluster: Cluster, place: str) -> None:
    done = cluster.helm(
        "install", "rel", CHART, "--namespace", place, "--values", values_of("default"), "--set", "updater.replicas=9",
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "updater may have 9 replicas" in done.stderr
    assert cluster.everything(place) == {}
