"""Errors as answers: problem+json (RFC 9457) with the fields at fault."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

MEDIA_TYPE = "application/problem+json"

_AT = re.compile(r"^(?P<detail>.*?)(?: - at `(?P<path>.*)`)?$", re.DOTALL)
_NAMED = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<field>.*)`$", re.DOTALL)


class FieldError(msgspec.Struct, frozen=True):
    """One field that is wrong, as a path from the body's root, and why."""

    field: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The body of an error answer; `results` says what happened to each part of a batch."""

    type: str
    title: str
    status: int
    detail: str
    errors: Sequence[FieldError] = ()
    results: Sequence[Any] = ()


class ProblemError(Exception):
    """Ends a request with a problem as its answer."""

    def __init__(self, problem: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.headers = dict(headers or {})


def problem(status: int, slug: str, detail: str, **extra: Any) -> Problem:
    """Return a problem whose type and title come from `slug`, such as "body-too-large"."""
    return Problem(
        type=f"urn:flywheel:problem:{slug}",
        title=slug.replace("-", " ").capitalize(),
        status=status,
        detail=detail,
        **extra,
    )


def malformed(detail: str) -> ProblemError:
    """The body is no JSON."""
    return ProblemError(problem(400, "malformed-body", f"The body is not valid JSON: {detail}."))


def invalid(errors: Sequence[FieldError]) -> ProblemError:
    """Fields of the request are wrong."""
    named = "; ".join(f"{error.field}: {error.detail}" for error in errors[:5])
    return ProblemError(problem(422, "invalid-request", named, errors=errors))


def unavailable(detail: str, retry_after_s: int, results: Sequence[Any] = ()) -> ProblemError:
    """Something that the request needs is down; it may be sent again after `retry_after_s`."""
    return ProblemError(problem(503, "unavailable", detail, results=results), {"retry-after": str(retry_after_s)})


def field_error(error: msgspec.ValidationError, prefix: str = "") -> FieldError:
    """Turn msgspec's message into the field at fault, below `prefix` (such as `events[3]`), and what is wrong."""
    match = _AT.match(str(error))
    detail, path = (match["detail"], match["path"] or "$") if match else (str(error), "$")
    field = prefix + path.removeprefix("$")
    named = _NAMED.match(detail)
    if named is not None:
        field = f"{field}.{named['field']}"
        detail = "is required" if named["what"] == "missing required" else "is not a known field"
    return FieldError(field.removeprefix(".") or "body", detail)


def rule_error(text: str) -> FieldError:
    """Split a broken rule, which starts with its field, into the field and what is wrong."""
    field, _, detail = text.partition(" ")
    return FieldError(field, detail)
