"""Events as metarank imports and exports them, one JSON object a line.

Format as documented at https://github.com/metarank/metarank/blob/master/doc/event-schema.md.
"""

from collections.abc import Mapping as Values
from typing import Any

import msgspec

from services.api.problems import FieldError
from services.imports.mapped import event_by
from services.imports.mapping import Mapping
from services.imports.stamp import Stamp
from streaming.events import Event, Kind

_CATEGORIES = ("categories", "category", "genres")
_INTERACTION = Mapping(entity="interactions", fields={"item_id": "item", "kind": "type", "happened_at": "timestamp"})
_USER = Mapping(entity="users", fields={"user_id": "user", "happened_at": "timestamp"})
_OPTIONAL = {"user_id": "user", "session_id": "session", "request_id": "ranking"}


def metarank_event(
    row: Values[str, Any], number: int, stamp: Stamp, kinds: Values[str, Kind]
) -> Event | FieldError | None:
    """Return the event of a row, or what is wrong with it; `kinds` says what types mean.

    None for a ranking, a list that was shown: it has no propensities, and no impression is made of it.
    """
    match row.get("event"):
        case "ranking":
            return None
        case "interaction":
            present = {name: column for name, column in _OPTIONAL.items() if row.get(column)}
            fields = {**_INTERACTION.fields, **present}
            mapping = msgspec.structs.replace(_INTERACTION, fields=fields, kinds=dict(kinds))
            return event_by(mapping, row, number, stamp)
        case "item" | "user" as entity:
            found = _named(row)
            if isinstance(found, FieldError):
                return found
            mapping = _item(found) if entity == "item" else _USER
            named = [name for name in found if name not in mapping.fields.values()]
            return event_by(msgspec.structs.replace(mapping, attributes=named), {**found, **row}, number, stamp)
    return FieldError("event", "must be item, user, ranking or interaction")


def _item(found: Values[str, Any]) -> Mapping:
    """Return how an item with these fields is read."""
    fields = {"item_id": "item", "happened_at": "timestamp"}
    fields |= {"title": "title"} if isinstance(found.get("title"), str) else {}
    lists = [name for name in _CATEGORIES if isinstance(found.get(name), list)]
    fields |= {"categories": lists[0]} if lists else {}
    return Mapping(entity="items", fields=fields)


def _named(row: Values[str, Any]) -> dict[str, Any] | FieldError:
    """Return the values of `fields` by name."""
    fields = row.get("fields", [])
    if not isinstance(fields, list):
        return FieldError("fields", "must be a list")
    found: dict[str, Any] = {}
    for field in fields:
        if not isinstance(field, dict) or not isinstance(field.get("name"), str) or "value" not in field:
            return FieldError("fields", "must be objects with a name and a value")
        found[field["name"]] = field["value"]
    return found
