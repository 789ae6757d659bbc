"""Values as files have them, text above all, as events want them."""

import math
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

_TIMES = frozenset({"happened_at", "source_time", "available_from", "available_until", "received_at"})
_LONGEST_TEXT = 500
_YES, _NO = frozenset({"true", "1", "yes"}), frozenset({"false", "0", "no"})

Unit = Literal["seconds", "milliseconds"]


class BadValue(ValueError):
    """A value that cannot be read; the text says why."""


def is_absent(value: Any) -> bool:
    """Whether a value says nothing."""
    return value is None or value == ""


def field(name: str, value: Any, unit: Unit, separator: str) -> Any:
    """Return what the event's field `name` wants of a value; raises BadValue."""
    if name in _TIMES:
        return millis(value, unit)
    read = value
    match name:
        case "position" | "schema_version":
            read = int(number(value))
        case "value":
            read = number(value)
        case "hidden":
            read = truth(value)
        case "categories":
            read = texts(value, separator)
        case "attributes":
            read = attributes(json_object(value))
    return read


def millis(value: Any, unit: Unit) -> int:
    """Return a time as ms UTC: a number in `unit`, or ISO 8601, without a zone UTC. Raises BadValue."""
    try:
        if isinstance(value, str):
            value = _parsed(value)
        if isinstance(value, datetime):
            aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            return round(aware.timestamp() * 1000)
        return int(value * 1000 if unit == "seconds" else value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValue(f"{str(value)[:50]!r} is no time: write a number or ISO 8601") from error


def number(value: Any) -> float:
    """Return a number; raises BadValue."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadValue(f"{str(value)[:50]!r} is no number") from error
    if not math.isfinite(found):
        raise BadValue("must be a finite number")
    return found


def truth(value: Any) -> bool:
    """Return a truth value; raises BadValue."""
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in _YES | _NO:
        raise BadValue(f"{text[:50]!r} is neither true nor false")
    return text in _YES


def texts(value: Any, separator: str) -> list[str]:
    """Return a list of texts, from a list, as JSON too, or from one text that `separator` divides."""
    if not isinstance(value, str):
        return [str(part) for part in value]
    if value.startswith("["):
        with suppress(msgspec.DecodeError, UnicodeEncodeError):  # the last: it is not in the file's encoding
            return msgspec.json.decode(value, type=list[str])
    return list(dict.fromkeys(part.strip() for part in value.split(separator) if part.strip()))


def attributes(values: Mapping[str, Any]) -> dict[str, str | float | bool]:
    """Return values as attributes; what is no text, number or truth value is kept as its JSON."""
    return {name: _attribute(value) for name, value in values.items() if value is not None}


def json_object(value: Any) -> dict[str, Any]:
    """Return an object, or the one that a text is as JSON; raises BadValue."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
            raise BadValue(f"is no JSON object: {error}") from error
    if not isinstance(value, dict):
        raise BadValue("is no object")
    return value


def _attribute(value: Any) -> str | float | bool:
    if isinstance(value, bool | float | str):
        return value
    if isinstance(value, int):
        return number(value)
    text = msgspec.json.encode(value).decode()
    if len(text) > _LONGEST_TEXT:
        raise BadValue(f"has more than {_LONGEST_TEXT} characters as JSON")
    return text


def _parsed(text: str) -> datetime | float:
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text)
