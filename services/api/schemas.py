"""Bodies of requests and answers. Unknown fields, wrong types and sizes beyond the limits are refused by decoding.

Times are epoch milliseconds UTC; positions count from 0, the top of the slate.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from services.api.problems import FieldError
from streaming.events import Attributes, Categories, Id, Kind, LongText, Millis, ShortText

MAX_N = 100
MAX_BATCH = 1_000
MAX_STEPS = 500

N = Annotated[int, Meta(ge=1, le=MAX_N)]
Position = Annotated[int, Meta(ge=0, le=10_000)]


class Body(Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """A request body."""


class Answer(Struct, kw_only=True, frozen=True):
    """An answer's body."""


# --- recommender


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
    events: Annotated[list[SessionEvent], Meta(max_length=200)] = []
    n: N = 20
    surface: Id = "home"
    categories: Categories = []
    exclude: Annotated[list[Id], Meta(max_length=1_000)] = []
    context: Attributes = {}


class SlateItem(Answer, frozen=True):
    """One item of a slate; `source` is where the candidate came from."""

    item_id: str
    score: float
    source: str
    position: int


class RecommendAnswer(Answer, frozen=True):
    """A slate, top first. Clicks on it carry `request_id`, and `session_id` when there is no user.

    `fallbacks` names what could not be used and was replaced; `model_version` is null without a model;
    `surfaces_version` is that of the rules in force.
    """

    request_id: str
    slate: list[SlateItem]
    surface: str
    surfaces_version: str
    variant: str
    model_version: str | None
    fallbacks: list[str]
    session_id: str | None


class SimilarRequest(Body, frozen=True):
    """Which item to find similar ones for."""

    item_id: Id
    n: N = 20
    categories: Categories = []
    exclude: Annotated[list[Id], Meta(max_length=1_000)] = []


class SimilarAnswer(Answer, frozen=True):
    """Items like the one asked for, most similar first."""

    slate: list[SlateItem]
    model_version: str | None
    fallbacks: list[str]


class EvaluationStarted(Answer, frozen=True):
    """A new evaluation: its id is part of the paths that use it."""

    evaluation_id: str


class EvaluationEvent(Body, frozen=True):
    """What the user did after the step's answer."""

    item_id: Id
    kind: Kind
    happened_at: Millis
    value: float | None = None


class EvaluationStep(Body, frozen=True):
    """Ask for a user as of a time; afterwards `then` is added to what the evaluation knows."""

    user_id: Id
    as_of: Millis
    n: N = 20
    then: Annotated[list[EvaluationEvent], Meta(max_length=MAX_BATCH)] = []


class EvaluationRequest(Body, frozen=True):
    """Steps, answered in their order."""

    steps: Annotated[list[EvaluationStep], Meta(min_length=1, max_length=MAX_STEPS)]


class EvaluationSlate(Answer, frozen=True):
    """One step's answer."""

    slate: list[SlateItem]
    fallbacks: list[str]


class EvaluationAnswer(Answer, frozen=True):
    """The steps' answers in their order."""

    slates: list[EvaluationSlate]
    model_version: str | None


# --- collector


class EventBody(Body, frozen=True):
    """An interaction. Without `event_id` one is made; sending the same id again counts once.

    At least one of user_id and session_id is needed; a rating needs its value.
    """

    item_id: Id
    kind: Kind
    user_id: Id | None = None
    session_id: Id | None = None
    surface: Id | None = None
    value: float | None = None
    request_id: Id | None = None
    position: Position | None = None
    event_id: Id | None = None
    happened_at: Millis | None = None


class ItemBody(Body, frozen=True):
    """An item as it is from now on."""

    item_id: Id
    title: ShortText = ""
    categories: Categories = []
    attributes: Attributes = {}
    text: LongText = ""
    available_from: Millis | None = None
    available_until: Millis | None = None
    hidden: bool = False


class UserBody(Body, frozen=True):
    """A user as they are from now on."""

    user_id: Id
    attributes: Attributes = {}


class IdentityBody(Body, frozen=True):
    """A guest's session that turned out to be a known user."""

    session_id: Id
    user_id: Id


class EventBatch(Body, frozen=True):
    """Several interactions."""

    events: Annotated[list[EventBody], Meta(min_length=1, max_length=MAX_BATCH)]


class ItemBatch(Body, frozen=True):
    """Several items."""

    items: Annotated[list[ItemBody], Meta(min_length=1, max_length=MAX_BATCH)]


class UserBatch(Body, frozen=True):
    """Several users."""

    users: Annotated[list[UserBody], Meta(min_length=1, max_length=MAX_BATCH)]


class IdentityBatch(Body, frozen=True):
    """Several identities."""

    identities: Annotated[list[IdentityBody], Meta(min_length=1, max_length=MAX_BATCH)]


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one part of a batch: `accepted` means acknowledged by all in-sync replicas of Kafka."""

    status: Literal["accepted", "rejected", "not_durable"]
    event_id: str | None = None
    errors: list[FieldError] = []


class Accepted(Answer, frozen=True):
    """The results in the order of what was sent."""

    accepted: int
    results: list[Result]


# --- both


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
