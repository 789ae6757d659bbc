"""Names that Feast's definitions and the reader of its store share, free of Feast."""

import hashlib
from dataclasses import dataclass

from streaming.namespace import Namespace

USER = "user_id"
ITEM = "item_id"


@dataclass(frozen=True)
class View:
    """A feature view's name and its features."""

    name: str
    features: tuple[str, ...]


WRITTEN_AT = "written_at"
"""The timestamp of the history view: its write version, never an event's time."""

HISTORY = View("user_history", ("events",))
USER_VIEW = View("user_features", ("interactions_30d", "interactions_total", "mean_value", "attributes"))
ITEM_VIEW = View(
    "item_features",
    ("item_interactions_7d", "item_interactions_30d", "item_interactions_total", "item_mean_value"),
)
RECENT_VIEW = View(
    "item_recent", ("item_interactions_1h", "item_interactions_24h", "item_positive_share_24h", "item_trend")
)


def feast_project(namespace: Namespace) -> str:
    """Return the Feast project of a namespace.

    Feast finds rows by key suffix, so `shop` would match the rows of `bigshop`: a hash of fixed length in front of
    nothing else keeps any project from being another one's ending.
    """
    digest = hashlib.sha256(namespace.encode()).hexdigest()[:12]
    return f"{namespace}_{digest}"
