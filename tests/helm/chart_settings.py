"""Write what the chart says of settings: their part of values.yaml, of values.schema.json and of the README's template.

Run `uv run python tests/helm/chart_settings.py` after a setting was added; `tests/helm/test_settings.py` tells when.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr

from services.config import Settings

CHART = Path(__file__).parents[2] / "helm" / "flywheel"

BY_CHART = {
    "home": "a volume of the pod",
    "kafka.ssl_cafile": "`kafkaCa`",
    "lake.spark_master": "`spark.mode`; local[2] in the pod unless `settings.lake.spark_master` says otherwise",
    "serving.host": "`listenAddress`",
    "serving.recommender_port": "`recommender.port`",
    "serving.collector_port": "`collector.port`",
    "serving.metrics_port": "`metricsPort`",
    "serving.api_keys_file": "`apiKeys`",
    "serving.spool_folder": "`collector.spool`; the recommender spools in its home",
    "serving.surfaces_file": "`surfaces`",
}
"""Settings that the chart decides, and by which of its values."""

LOCAL_ONLY = {
    "kafka.port": "port of the embedded broker",
    "store.port": "port of the embedded Valkey",
    "model.studies": "SQLite file of `flywheel tune`, which people run by hand",
}
"""Settings that mean nothing on a cluster, and why."""

ALSO_VALUES = {"lake.spark_master"}
"""Settings that the chart decides only in some modes."""

CHART_DEFAULTS = {"kafka.replication_factor": 3, "kafka.min_insync_replicas": 2}
"""Where a cluster wants something else than one machine."""

_NAMESPACE = "^[a-z][a-z0-9]{1,19}$"


def leaves(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting's path and its pydantic field."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{path}.")
        else:
            yield path, field


def is_secret(field: Any) -> bool:
    """Whether a setting's value must come from a Secret."""
    return "SecretStr" in str(field.annotation) or field.annotation is SecretStr


def values_block() -> str:
    """Return the settings as they stand in values.yaml."""
    lines = ["# Named as in Flywheel's settings; null leaves the application's default.", "settings:"]
    shown: tuple[str, ...] = ()
    for path, field in leaves():
        if is_secret(field) or path in LOCAL_ONLY or (path in BY_CHART and path not in ALSO_VALUES):
            continue
        *sections, name = path.split(".")
        for depth, section in enumerate(sections, 1):
            if tuple(sections[:depth]) != shown[:depth]:
                lines.append(f"{'  ' * depth}{section}:")
        shown = tuple(sections)
        indent = "  " * (len(sections) + 1)
        value = CHART_DEFAULTS.get(path)
        default = "unset" if field.default is None else field.default
        lines += [f"{indent}# -- {field.description}"]
        lines += [] if value is not None else [f"{indent}# @default -- `{default}`"]
        lines += [f"{indent}{name}: {json.dumps(value)}"]
    return "\n".join(lines)


def secrets_block() -> str:
    """Return the secret settings as they stand in values.yaml: by reference."""
    lines = [
        '# Settings that are secret, by reference to Secrets that exist; `secret: ""` leaves one unset.',
        "secrets:",
    ]
    section = ""
    for path, field in leaves():
        if not is_secret(field):
            continue
        *sections, name = path.split(".")
        if sections and sections[0] != section:
            section = sections[0]
            lines.append(f"  {section}:")
        indent = "  " * (len(sections) + 1)
        lines.append(f"{indent}# -- {field.description}")
        lines.append(f'{indent}{name}: {{secret: "", key: {name.replace("_", "-")}}}')
    return "\n".join(lines)


def settings_schema() -> dict[str, Any]:
    """Return the schema of `settings`: the settings model's own, without what is placed elsewhere."""
    whole = Settings.model_json_schema()
    schema = _inlined(whole, whole.get("$defs", {}), "")
    schema["properties"]["namespace"] = {"type": ["string", "null"], "pattern": _NAMESPACE}
    return schema


def secrets_schema() -> dict[str, Any]:
    """Return the schema of `secrets`."""
    sections: dict[str, Any] = {}
    for path, field in leaves():
        if is_secret(field):
            *parents, name = path.split(".")
            here = sections
            for parent in parents:
                here = here.setdefault(parent, _closed({}))["properties"]
            here[name] = {"$ref": "#/$defs/secretKey"}
    return _closed(sections)


def readme_table() -> str:
    """Return the README's table of the settings that are not under `settings`."""
    rows = ["| setting | where it comes from |", "|---|---|"]
    rows += [f"| `{path}` | {where} |" for path, where in BY_CHART.items()]
    rows += [f"| `{path}` | a Secret: `secrets.{path}` |" for path, field in leaves() if is_secret(field)]
    rows += [f"| `{path}` | local only: {why} |" for path, why in LOCAL_ONLY.items()]
    return "\n".join(rows)


def generated() -> dict[Path, str]:
    """Return each file that holds something generated, as it should be."""
    values, readme = CHART / "values.yaml", CHART / "README.md.gotmpl"
    schema_file = CHART / "values.schema.json"
    text = values.read_text(encoding="utf-8")
    for name, block in (("settings", values_block()), ("secrets", secrets_block())):
        text = _between(text, f"# {name}: written by tests/helm/chart_settings.py\n", f"# {name}: end", block)
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    schema["properties"] |= {"settings": settings_schema(), "secrets": secrets_schema()}
    return {
        values: text,
        schema_file: json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        readme: _between(
            readme.read_text(encoding="utf-8"), "<!-- elsewhere -->\n", "<!-- /elsewhere -->", readme_table()
        ),
    }


def _between(text: str, begin: str, end: str, block: str) -> str:
    return re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}{block}\n{end}", text, flags=re.DOTALL)


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


def _inlined(schema: dict[str, Any], definitions: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a section's schema without references, every value nullable: null is the application's default."""
    properties: dict[str, Any] = {}
    for name, one in schema["properties"].items():
        path = f"{prefix}{name}"
        reference = one.get("$ref")
        if reference is not None:
            properties[name] = _inlined(definitions[reference.rpartition("/")[2]], definitions, f"{path}.")
        elif path not in LOCAL_ONLY and (path not in BY_CHART or path in ALSO_VALUES) and not _is_password(one):
            bare = {key: value for key, value in one.items() if key not in ("default", "title", "description")}
            properties[name] = _nullable(bare)
    return _closed(properties)


def _is_password(schema: dict[str, Any]) -> bool:
    return any(one.get("writeOnly") for one in [schema, *schema.get("anyOf", [])])


def _nullable(schema: dict[str, Any]) -> dict[str, Any]:
    options = schema.get("anyOf", [schema])
    kept = [{key: value for key, value in one.items() if key != "format"} for one in options]
    if any(one.get("type") == "null" for one in kept):
        return {"anyOf": kept}
    return {"anyOf": [*kept, {"type": "null"}]}


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, encoding="utf-8")
