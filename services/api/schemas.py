"""What bodies have in common. Unknown fields, wrong types and sizes beyond the limits are refused by decoding.

Times are epoch milliseconds UTC; positions count from 0, the top of the slate.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

MAX_N = 100
MAX_BATCH = 1_000

N = Annotated[int, Meta(ge=1, le=MAX_N)]


class Body(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A request body."""


class Answer(Struct, kw_only=True, frozen=True):
    """An answer's body."""


class Ready(Answer, frozen=True):
    """Whether requests can be answered, and each check behind it."""

    ready: bool
    checks: dict[str, bool]


class Document(Answer, frozen=True):
    """The OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]
