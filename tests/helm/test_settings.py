"""Chart and settings model say the same: no variable that no setting claims, no setting that the chart forgets."""

import json
import os
from pathlib import Path
from typing import Any

import chart_settings
import pytest
from chart import CASES, CHART, Manifest, case, manifests, pod_specs, rendered, values_of
from pydantic import SecretStr

from services.config import PREFIX, Settings, variables

CLAIMED = {name for name, _ in variables()}
SECRET = {name for name, field in variables() if chart_settings.is_secret(field)}

_SECRET_TEXT = "redis://a-secret-of-more-than-32-characters"


def variable(path: str) -> str:
    return PREFIX + path.upper().replace(".", "__")


def config_map(found: list[Manifest]) -> dict[str, str]:
    return dict(next(one["data"] for one in found if one["metadata"]["name"].endswith("-settings")))


def container_env(spec: Manifest) -> dict[str, Any]:
    entries = [entry for container in spec["containers"] for entry in container["env"]]
    assert len({entry["name"] for entry in entries}) == len(entries), "a variable is set twice"
    return {entry["name"]: entry for entry in entries}


def load(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return what a process with these variables loads; raises what it would die of."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("name", CASES)
def test_every_variable_of_every_pod_is_a_setting_and_loads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = case(name)
    shared = config_map(found)
    assert set(shared) <= CLAIMED - SECRET
    for where, spec in pod_specs(found).items():
        own = {entry: value for entry, value in container_env(spec).items() if entry.startswith(PREFIX)}
        assert set(own) <= CLAIMED, where
        referenced = {entry for entry, value in own.items() if "valueFrom" in value}
        assert referenced == SECRET & set(own), where
        plain = {entry: value["value"] for entry, value in own.items() if entry not in referenced}
        settings = load({**shared, **plain, **dict.fromkeys(referenced, _SECRET_TEXT)}, monkeypatch)
        assert settings.store.redis_url == SecretStr(_SECRET_TEXT)
        assert str(settings.serving.api_keys_file) == "/etc/flywheel/keys/keys.json"
        assert settings.kafka.bootstrap_servers


def test_every_setting_is_a_value_of_the_chart_or_placed_elsewhere_by_name() -> None:
    values = (CHART / "values.yaml").read_text(encoding="utf-8")
    defaults = manifests(values)[0]
    readme = (CHART / "README.md").read_text(encoding="utf-8")
    for path, field in chart_settings.leaves():
        tree = defaults["secrets" if chart_settings.is_secret(field) else "settings"]
        for part in path.split("."):
            tree = tree.get(part, "absent") if isinstance(tree, dict) else "absent"
        placed = path in chart_settings.BY_CHART or path in chart_settings.LOCAL_ONLY
        assert (tree != "absent") is not placed or path in chart_settings.ALSO_VALUES, path
        if placed:
            assert f"| `{path}` |" in readme
        else:
            assert f"{'secrets' if chart_settings.is_secret(field) else 'settings'}.{path}" in readme


def test_no_setting_is_placed_that_does_not_exist() -> None:
    paths = {path for path, _ in chart_settings.leaves()}
    named = [*chart_settings.BY_CHART, *chart_settings.LOCAL_ONLY, *chart_settings.CHART_DEFAULTS]
    assert set(named) <= paths


def test_values_and_schema_are_those_of_the_settings_model() -> None:
    """After a setting was added: `uv run python tests/helm/chart_settings.py`."""
    for path, text in chart_settings.generated().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run tests/helm/chart_settings.py"


def test_what_the_chart_is_told_is_what_a_process_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every setting at once: each is told, and some have another value than their default, of every kind of value."""
    tree: dict[str, Any] = {}
    wanted: dict[str, Any] = {}
    for path, field in chart_settings.leaves():
        default = field.default
        if chart_settings.is_secret(field) or path in chart_settings.LOCAL_ONLY or path in chart_settings.BY_CHART:
            continue
        value = default if default is not None else _SOME.get(path, "s3://some/where")
        *sections, name = path.split(".")
        here = tree
        for section in sections:
            here = here.setdefault(section, {})
        here[name] = wanted[path] = _OTHER.get(path, list(value) if isinstance(value, tuple) else value)
    file = tmp_path / "values.json"
    secrets = {"kafka": {"sasl_password": {"secret": "kafka"}}}
    file.write_text(json.dumps({"settings": tree, "secrets": secrets}), encoding="utf-8")
    told = config_map(manifests(rendered(values_of("default"), file)))
    assert {f"{PREFIX}{path.upper().replace('.', '__')}" for path in wanted} <= set(told)
    loaded = load({**told, f"{PREFIX}KAFKA__SASL_PASSWORD": _SECRET_TEXT}, monkeypatch)
    for path, value in wanted.items():
        found: Any = loaded
        for part in path.split("."):
            found = getattr(found, part)
        assert (list(found) if isinstance(found, tuple) else found) == value, path


_SOME = {
    "kafka.sasl_token_url": "https://tokens.example/token",
    "kafka.sasl_mechanism": "PLAIN",
    "lake.uri": "jdbc:postgresql://host/lake",
}
_OTHER = {
    "kafka.security_protocol": "SASL_SSL",
    "lake.catalog": "jdbc",
    "kafka.partitions": 1000,
    "serving.max_body_bytes": 123_456_789,  # Helm reads numbers as floating point, and would write 1.23456789e+08
    "serving.trace_share": 0.000001,
    "serving.task_weights": {"purchase": 0.5, "like": -1.25},
    "model.retrieval.bfloat16": True,
    "model.ranking.conversions": ["purchase"],
}


def test_a_setting_that_is_null_is_left_to_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = config_map(case("default"))
    assert variable("kafka.partitions") not in shared
    assert load(shared, monkeypatch).kafka.partitions == Settings.model_fields["kafka"].default.partitions
