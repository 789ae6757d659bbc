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
_OPTIONAL = {"user_id": "user", "session_id": "session", "request_id": "ranking"}


class Ranking(Exception):
    """A row is a list that was shown: it has no propensities, and no impression is made of it."""


def metarank_event(row: Values[str, Any], number: int, stamp: Stamp, kinds: Values[str, Kind]) -> Event | FieldError:
    """Return the event of a row, or what is wrong with it; `kinds` says what types mean. Raises Ranking."""
    match row.get("event"):
        case "ranking":
            raise Ranking
        case "interaction":
            present = {name: column for name, column in _OPTIONAL.items() if row.get(column)}
            fields = {**_INTERACTION.fields, **present}
            mapping = msgspec.structs.replace(_INTERACTION, fields=fields, kinds=dict(kinds))
            return event_by(mapping, row, number, stamp)
        case "item":
            found = _named(row)
            if isinstance(found, FieldError):
                return found
            fields = {"item_id": "item", "happened_at": "timestamp"}
            fields |= {"title": "title"} if isinstance(found.get("title"), str) else {}
            lists = [name for name in _CATEGORIES if isinstance(found.get(name), list)]
            fields |= {"categories": lists[0]} if lists else {}
            return _described(Mapping(entity="items", fields=fields), row, found, number, stamp)
        case "user":
            found = _named(row)
            if isinstance(found, FieldError):
                return found
            fields = {"user_id": "user", "happened_at": "timestamp"}
            return _described(Mapping(entity="users", fields=fields), row, found, number, stamp)
    return FieldError("event", "must be item, user, ranking or interaction")


def _described(
    mapping: Mapping, row: Values[str, Any], found: Values[str, Any], number: int, stamp: Stamp
) -> Event | FieldError:
    named = [name for name in found if name not in mapping.fields.values()]
    return event_by(msgspec.structs.replace(mapping, attributes=named), {**found, **row}, number, stamp)


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
