"""Rows as events by a mapping."""

from collections.abc import Mapping as Values
from typing import Any

import msgspec

from services.api.problems import FieldError, field_error
from services.imports import values
from services.imports.mapping import EVENT_TYPES, Mapping
from services.imports.stamp import PRODUCER, Stamp
from streaming.events import Event, Kind

_TEXTS = frozenset({"item_id", "user_id", "session_id", "request_id", "surface", "event_id", "title", "kind"})
"""What other systems may have as whole numbers."""


def event_by(mapping: Mapping, row: Values[str, Any], number: int, stamp: Stamp) -> Event | FieldError:
    """Return the event of a row, or what is wrong with it."""
    try:
        fields = _fields(mapping, row)
    except _Bad as error:
        return FieldError(error.args[0], error.args[1])
    if mapping.entity != "interactions":  # when that was is seldom known, and must not change when the import goes on
        fields.setdefault("happened_at", stamp.began_at)
    fields.setdefault("event_id", stamp.event_id(number))
    fields |= {"received_at": stamp.began_at, "producer": PRODUCER}
    return made(EVENT_TYPES[mapping.entity], fields, stamp)


def made(event_type: type[Any], fields: Values[str, Any], stamp: Stamp) -> Event | FieldError:
    """Return an event of these fields, or what is wrong with it."""
    try:
        event: Event = msgspec.convert(fields, event_type)
    except msgspec.ValidationError as error:
        return field_error(error)
    return stamp.checked(event)


class _Bad(Exception):
    """A field's value is not there or cannot be read: the field or its column, and what is wrong."""


def _fields(mapping: Mapping, row: Values[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(mapping.constants)
    for name, column in mapping.fields.items():
        if column not in row:
            raise _Bad(column, "is a column that the row does not have")
        if not values.is_absent(row[column]):
            fields[name] = _read(mapping, name, row[column])
    if "kind" in fields:
        fields["kind"] = _kind(mapping, str(fields["kind"]))
    extra = {name: row[name] for name in mapping.attributes if not values.is_absent(row.get(name))}
    if extra:
        fields["attributes"] = fields.get("attributes", {}) | _read(mapping, "attributes", extra)
    return fields


def _read(mapping: Mapping, name: str, value: Any) -> Any:
    try:
        read = values.field(name, value, mapping.time_unit, mapping.list_separator)
    except (values.BadValue, TypeError) as error:
        raise _Bad(name, str(error)) from error
    return str(read) if isinstance(read, int) and name in _TEXTS else read


def _kind(mapping: Mapping, text: str) -> str:
    if text in mapping.kinds:
        return mapping.kinds[text].value
    if text not in [*Kind]:
        raise _Bad("kind", f"{text[:50]!r} is no kind: say in the mapping's `kinds` which of ours it means")
    return text
