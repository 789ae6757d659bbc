"""The OpenAPI document, written from the routes and the structs that decode and encode their bodies."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from services.api.problems import MEDIA_TYPE, Problem
from services.api.routes import JSON, NDJSON, Route
from services.api.schemas import MAX_BATCH, Document

_VERSION = "1"
_REF = "#/components/schemas/{name}"
_BODY_STATUSES = (400, 413, 415, 422)
_KEY_STATUSES = (401, 403)
_ALWAYS = (429, 500, 503, 504)


def document(title: str, routes: Sequence[Route]) -> Document:
    """Return the document of `routes`; the one route that serves it is left out."""
    used = {kind for route in routes for kind in (*route.bodies, *route.answers.values()) if kind is not None}
    types = sorted(used | {Problem}, key=lambda kind: kind.__name__)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    security = {"key": {"type": "http", "scheme": "bearer", "description": "An API key with the route's scope."}}
    return Document(
        openapi="3.1.0",
        info={"title": title, "version": _VERSION},
        paths=paths,
        components={"schemas": components, "securitySchemes": security},
    )


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_').replace('{', '').replace('}', '')}",
        "responses": {
            str(status): _content(status, JSON, schema_of.get(kind)) for status, kind in route.answers.items()
        },
    }
    for status in _problem_statuses(route):
        operation["responses"].setdefault(str(status), _content(status, MEDIA_TYPE, schema_of[Problem]))
    if route.parameters:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in route.parameters
        ]
    if route.bodies:
        schema = {"anyOf": [schema_of[kind] for kind in route.bodies]}
        content: dict[str, Any] = {JSON: {"schema": schema}}
        if route.decode_lines is not None:
            # A line is an item of the array, as OpenAPI 3.2 describes sequential media types.
            line = schema_of[route.bodies[0]]
            content[NDJSON] = {"schema": {"type": "array", "items": line, "minItems": 1, "maxItems": MAX_BATCH}}
        operation["requestBody"] = {"required": True, "content": content}
    if route.scope is not None:
        operation["security"] = [{}, {"key": []}]
        operation["description"] = f"With keys on, needs the scope {route.scope.value!r}."
    return operation


def _problem_statuses(route: Route) -> list[int]:
    statuses = [*_ALWAYS, *route.problems]
    if route.scope is not None:
        statuses += _KEY_STATUSES
    if route.bodies:
        statuses += _BODY_STATUSES
    if route.parameters:
        statuses += [400, 404, 422]
    return sorted(set(statuses))


def _content(status: int, media_type: str, schema: Any | None) -> dict[str, Any]:
    description = {"description": HTTPStatus(status).phrase}
    return description if schema is None else {**description, "content": {media_type: {"schema": schema}}}
