"""Routes as data: what they take, what they answer, who may call them and which function does it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from services.api.auth import Scope
from services.api.problems import FieldError, ProblemError, field_error, invalid, malformed, problem

T = TypeVar("T")

JSON = "application/json"
NDJSON = "application/x-ndjson"
"""Bodies of one JSON value a line (https://github.com/ndjson/ndjson-spec)."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request that passed the front: its decoded body, the values in its path, and whether many are in progress."""

    body: Any
    path: Mapping[str, str]
    crowded: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers; the access log names the request by `request_id`, where it has one."""

    body: msgspec.Struct | None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = None


Handler = Callable[[Call], Awaitable[Reply]]


@dataclass(frozen=True)
class Route:
    """One route of the API. Pages of other origins may call those of the scope `write-public`.

    `bodies` are the types that a body may have, none for no body; `answers` the types by status. `decode` turns the
    bytes into what the handler gets, `decode_lines` those of NDJSON, whose lines are of the first type of `bodies`.
    `problems` are statuses of the route's own, beside those that every route may answer with. A route without scope
    needs no key.
    """

    method: str
    path: str
    summary: str
    handle: Handler
    answers: Mapping[int, Any]
    scope: Scope | None = None
    bodies: tuple[Any, ...] = ()
    decode: Callable[[bytes], Any] | None = None
    decode_lines: Callable[[bytes], Any] | None = None
    problems: tuple[int, ...] = ()
    has_deadline: bool = True

    @cached_property
    def decoders(self) -> Mapping[str, Callable[[bytes], Any]]:
        """What decodes a body, by its media type."""
        by_type = {JSON: self.decode, NDJSON: self.decode_lines}
        return {media_type: decode for media_type, decode in by_type.items() if decode is not None}

    @property
    def parameters(self) -> list[str]:
        """The names in the path."""
        return [segment[1:-1] for segment in self.path.split("/") if segment.startswith("{")]


def decode_json(data: bytes, kind: Any) -> Any:
    """Decode a body strictly; raises a problem of status 400 for what is no JSON and 422 with the field at fault."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise invalid([field_error(error)]) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(str(error)) from error


def decode_part(data: bytes | msgspec.Raw, kind: type[T], prefix: str) -> T | FieldError:
    """Decode one part of a batch strictly, or return what is wrong with it, below `prefix` (such as `events[3]`)."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        return field_error(error, prefix)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return FieldError(prefix, str(error))


class Router:
    """Finds the route of a request. Paths are matched segment by segment, so an id may hold any character."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes: dict[int, list[tuple[list[str], Route]]] = {}
        for route in routes:
            segments = route.path.split("/")
            self._routes.setdefault(len(segments), []).append((segments, route))

    def match(self, method: str, raw_path: bytes) -> tuple[Route, dict[str, str]]:
        """Return the route and the values in the path; raises a 404 or 405 problem."""
        segments = _segments(raw_path)
        allowed = []
        for template, route in self._routes.get(len(segments), ()):
            values = _bind(template, segments)
            if values is None:
                continue
            if route.method == method:
                return route, values
            allowed.append(route.method)
        if allowed:
            detail = f"This path takes {', '.join(sorted(allowed))}."
            raise ProblemError(problem(405, "method-not-allowed", detail), {"allow": ", ".join(sorted(allowed))})
        raise ProblemError(problem(404, "no-such-route", "There is no such route; /docs.json lists them all."))


def _segments(raw_path: bytes) -> list[str]:
    try:
        return [unquote(segment, errors="strict") for segment in raw_path.decode("ascii").split("/")]
    except UnicodeDecodeError as error:
        raise ProblemError(problem(400, "malformed-path", "The path is not percent-encoded UTF-8.")) from error


def _bind(template: list[str], segments: list[str]) -> dict[str, str] | None:
    values = {}
    for expected, found in zip(template, segments, strict=True):
        if expected.startswith("{"):
            values[expected[1:-1]] = found
        elif expected != found:
            return None
    return values
