"""The dumps that gorse's dashboard writes: users.jsonl, items.jsonl and feedback.jsonl.

Field names as documented at https://gorse.io/docs/concepts/data-source; labels may be any JSON.
"""

from collections.abc import Mapping as Values
from typing import Any

import msgspec

from services.api.problems import FieldError
from services.imports.mapped import event_by
from services.imports.mapping import Mapping
from services.imports.stamp import Stamp
from streaming.events import Event, Kind

_FEEDBACK = Mapping(
    entity="interactions",
    fields={"user_id": "UserId", "item_id": "ItemId", "kind": "FeedbackType", "happened_at": "Timestamp"},
    kinds={"star": Kind.LIKE, "read": Kind.VIEW},
)
_ITEM = Mapping(
    entity="items",
    fields={"item_id": "ItemId", "hidden": "IsHidden", "categories": "Categories", "happened_at": "Timestamp"},
)
_USER = Mapping(entity="users", fields={"user_id": "UserId"})
_NEVER = "0001-01-01T00:00:00Z"  # Go's zero time


def gorse_event(row: Values[str, Any], number: int, stamp: Stamp, kinds: Values[str, Kind]) -> Event | FieldError:
    """Return the event of a row, or what is wrong with it; `kinds` says what feedback types mean."""
    row = {**row, "Timestamp": None if row.get("Timestamp") == _NEVER else row.get("Timestamp")}
    if "FeedbackType" in row:
        mapping = msgspec.structs.replace(_FEEDBACK, kinds={**_FEEDBACK.kinds, **kinds})
        if row.get("Value"):
            mapping = msgspec.structs.replace(mapping, fields={**mapping.fields, "value": "Value"})
        return event_by(mapping, row, number, stamp)
    labels = _labels(row.get("Labels"))
    if "ItemId" in row:
        categories = [*(row.get("Categories") or []), *labels.pop("", [])]
        row = {"IsHidden": False, **row, **labels, "Categories": categories}
        mapping = msgspec.structs.replace(_ITEM, attributes=[*labels])
        if row.get("Comment"):
            mapping = msgspec.structs.replace(mapping, fields={**_ITEM.fields, "title": "Comment"})
        return event_by(mapping, row, number, stamp)
    if "UserId" in row:
        unnamed = {"labels": labels.pop("")} if "" in labels else {}
        named = {**labels, **unnamed}
        return event_by(msgspec.structs.replace(_USER, attributes=[*named]), {**row, **named}, number, stamp)
    return FieldError("row", "has neither FeedbackType, ItemId nor UserId: it is no row of a dump of gorse")


def _labels(labels: Any) -> dict[str, Any]:
    """Return labels by name; a list, which names nothing, under the empty name."""
    if isinstance(labels, dict):
        return {str(name): value for name, value in labels.items() if name}
    return {"": labels} if labels else {}
