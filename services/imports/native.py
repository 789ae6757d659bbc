"""Rows that are events already, as `flywheel export` writes them: their ids, times and producers stay."""

from collections.abc import Mapping as Values
from typing import Any

from services.api.problems import FieldError
from services.imports import values
from services.imports.mapped import made
from services.imports.stamp import PRODUCER, Stamp
from streaming.events import Event, IdentityLinked, Interaction, ItemRemoved, ItemUpserted, UserUpserted

_TYPES = {
    "interaction": Interaction,
    "item_upserted": ItemUpserted,
    "item_removed": ItemRemoved,
    "user_upserted": UserUpserted,
    "identity_linked": IdentityLinked,
}


def native_event(row: Values[str, Any], number: int, stamp: Stamp) -> Event | FieldError:
    """Return the event of a row, or what is wrong with it. Without an id it gets that of its row."""
    present = {name: value for name, value in row.items() if not values.is_absent(value)}
    event_type = _TYPES.get(str(present.pop("type", "")) or _guessed(row))
    if event_type is None:
        return FieldError("type", f"must be one of {', '.join(_TYPES)}")
    unknown = sorted(present.keys() - {*event_type.__struct_fields__})
    if unknown:
        return FieldError(str(unknown[0])[:100], "is not a known field")
    fields: dict[str, Any] = {
        "event_id": stamp.event_id(number),
        "received_at": stamp.began_at,
        "producer": PRODUCER,
    }
    for name, value in present.items():
        try:
            fields[name] = values.field(name, value, "milliseconds", "|")
        except (values.BadValue, TypeError) as error:
            return FieldError(name, str(error))
    return made(event_type, fields, stamp)


def _guessed(row: Values[str, Any]) -> str:
    if "kind" in row:
        return "interaction"
    if "item_id" in row:
        return "item_upserted"
    return "identity_linked" if "session_id" in row else "user_upserted"
