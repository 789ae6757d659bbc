"""Alerts and dashboard ask for metrics that exist, of this release alone."""

import json
import re

import pytest
from chart import case, manifests, rendered, values_of
from prometheus_client import CollectorRegistry

from services.consumer_metrics import ConsumerMetrics
from services.landing_metrics import LandingMetrics
from services.metrics import CollectorMetrics, HttpMetrics, ImpressionMetrics, RecommendMetrics, RecordMetrics
from streaming.consumer import ConsumerCounts


def names_of(*makers: type) -> dict[str, set[str]]:
    """Every series of some metrics with its labels, as Prometheus sees them."""
    found: dict[str, set[str]] = {}
    for maker in makers:
        registry = CollectorRegistry()
        maker(registry)
        for metric in list(registry._names_to_collectors.values()):
            labels = set(metric._labelnames)
            for suffix in {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}.get(metric._type, ("",)):
                found[f"{metric._name}{suffix}"] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


RECOMMENDER = names_of(HttpMetrics, RecommendMetrics, ImpressionMetrics, RecordMetrics)
COLLECTOR = names_of(HttpMetrics, CollectorMetrics)
LANDING = names_of(LandingMetrics)
UPDATER = {
    f"{metric.name}_total" if metric.type == "counter" else metric.name: set(getattr(metric, "_labelnames", ()))
    for metric in ConsumerMetrics(ConsumerCounts(), lambda: 0, lambda: 0.0).collect()
}
KNOWN = {"recommender": RECOMMENDER, "collector": COLLECTOR, "landing": LANDING, "updater": UPDATER}
_SELECTOR = re.compile(r"(flywheel_\w+)\{([^}]*)\}")


def expressions() -> list[tuple[str, str]]:
    rules = next(one for one in case("production") if one["kind"] == "PrometheusRule")
    found = [(rule["alert"], rule["expr"]) for group in rules["spec"]["groups"] for rule in group["rules"]]
    config = next(one for one in case("production") if one["metadata"]["name"] == "rel-flywheel-dashboard")
    board = json.loads(config["data"]["default-rel-flywheel.json"])
    return found + [(panel["title"], target["expr"]) for panel in board["panels"] for target in panel["targets"]]


def test_every_expression_asks_for_metrics_that_their_process_has() -> None:
    for name, expression in expressions():
        check_expression(name, expression)


def check_expression(name: str, expression: str) -> None:
    selectors = _SELECTOR.findall(expression)
    assert len(selectors) == len(re.findall(r"flywheel_\w+", expression)), "a metric without a selector"
    assert expression.count("(") == expression.count(")")
    for metric, selector in selectors:
        matchers = dict(re.findall(r'(\w+)=~?"([^"]*)"', selector))
        component = matchers["job"].removeprefix("rel-flywheel-")
        assert matchers["namespace"] == "default"
        assert metric in KNOWN[component], metric
        assert set(matchers) - {"job", "namespace"} <= KNOWN[component][metric], selector
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        for label in grouped.split(", "):
            assert all(label in KNOWN[c][m] for m, s in selectors for c in KNOWN if f'-{c}"' in s), (name, label)


def test_every_objective_has_its_alert() -> None:
    rules = next(one for one in case("production") if one["kind"] == "PrometheusRule")
    alerts = {rule["alert"]: rule for group in rules["spec"]["groups"] for rule in group["rules"]}
    assert set(alerts) >= {
        "FlywheelErrors",
        "FlywheelSlow",
        "FlywheelStale",
        "FlywheelConsumerLag",
        "FlywheelDeadLetters",
        "FlywheelUnbalanced",
        "FlywheelAuditOld",
        "FlywheelModelOld",
        "FlywheelEmptyAnswers",
    }
    for name, rule in alerts.items():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["runbook_url"].endswith(f"#{name.lower()}")


def test_labels_that_prometheus_and_grafana_look_for_are_labels_whatever_annotations_there_are() -> None:
    sets = ["commonAnnotations.owner=discovery", "monitoring.dashboard.annotations.folder=shop"]
    found = manifests(rendered(values_of("production"), sets=sets))
    monitors = [one for one in found if one["apiVersion"].startswith("monitoring.coreos.com")]
    assert len(monitors) == 5
    [dashboard] = [one for one in found if one["metadata"]["name"] == "rel-flywheel-dashboard"]
    assert {one["metadata"]["labels"]["release"] for one in monitors} == {"prometheus"}
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["metadata"]["annotations"] == {"owner": "discovery", "folder": "shop"}


def alerts_with(*sets: str) -> dict[str, str]:
    found = manifests(rendered(values_of("production"), sets=[*sets]))
    [rules] = [one for one in found if one["kind"] == "PrometheusRule"]
    return {rule["alert"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]}


def test_that_nobody_tells_the_lag_is_an_alarm_only_where_an_updater_must_run() -> None:
    assert "absent(" in alerts_with()["FlywheelConsumerLag"]
    assert (
        "absent(" not in alerts_with("updater.keda.minReplicas=0", "updater.pdb.enabled=false")["FlywheelConsumerLag"]
    )
    assert "FlywheelConsumerLag" not in alerts_with("updater.enabled=false")


@pytest.mark.parametrize("sets", [["landing.mode=cron"], ["spark.mode=operator", "spark.image.repository=spark"]])
def test_nothing_is_asked_of_a_landing_that_nobody_scrapes(sets: list[str]) -> None:
    found = manifests(rendered(values_of("production"), sets=sets))
    rules = next(one for one in found if one["kind"] == "PrometheusRule")["spec"]["groups"][0]["rules"]
    assert rules
    assert not [rule["alert"] for rule in rules if "flywheel-landing" in rule["expr"]]


def test_monitors_scrape_ports_and_paths_that_pods_have() -> None:
    found = case("production")
    monitors = [one for one in found if one["kind"] in ("ServiceMonitor", "PodMonitor")]
    ports = {"recommender": "http", "collector": "http", "updater": "metrics", "landing": "metrics"}
    for one in monitors:
        component = one["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"]
        endpoint = (one["spec"].get("endpoints") or one["spec"]["podMetricsEndpoints"])[0]
        assert (endpoint["port"], endpoint["path"]) == (ports.pop(component), "/metrics")
        assert one["metadata"]["labels"]["release"] == "prometheus"
    assert ports == {}
