"""The recommender's bodies: what it is asked and what it answers."""

from typing import Annotated

from msgspec import Meta, field

from services.api.schemas import Answer, Body, N
from streaming.events import Attributes, Categories, Id, Kind, Millis


class SessionEvent(Body, frozen=True):
    """Something that happened in the session and that need not be collected yet; oldest first."""

    item_id: Id
    kind: Kind = Kind.VIEW
    value: float | None = None
    happened_at: Millis | None = None


class RecommendRequest(Body, frozen=True):
    """For whom and how many. At least one of user_id, session_id and events says for whom."""

    user_id: Id | None = None
    session_id: Id | None = None
    events: Annotated[list[SessionEvent], Meta(max_length=200)] = field(default_factory=list)
    n: N = 20
    surface: Id = "home"
    categories: Categories = field(default_factory=list)
    exclude: Annotated[list[Id], Meta(max_length=1_000)] = field(default_factory=list)
    context: Attributes = field(default_factory=dict)


class SlateItem(Answer, frozen=True):
    """One item of a slate; `source` is where the candidate came from."""

    item_id: str
    score: float
    source: str
    position: int


class RecommendAnswer(Answer, frozen=True):
    """A slate, top first. Clicks on it carry `request_id`, and `session_id` when there is no user.

    `fallbacks` names what could not be used and was replaced; `model_version` is null without a model.
    """

    request_id: str
    slate: list[SlateItem]
    surface: str
    variant: str
    model_version: str | None
    fallbacks: list[str]
    session_id: str | None


class SimilarRequest(Body, frozen=True):
    """Which item to find similar ones for."""

    item_id: Id
    n: N = 20
    categories: Categories = field(default_factory=list)
    exclude: Annotated[list[Id], Meta(max_length=1_000)] = field(default_factory=list)


class SimilarAnswer(Answer, frozen=True):
    """Items like the one asked for, most similar first."""

    slate: list[SlateItem]
    model_version: str | None
    fallbacks: list[str]
