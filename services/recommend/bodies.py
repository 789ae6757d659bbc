"""The recommender's bodies: what it is asked and what it answers."""

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType, field

from models.config import ConversionName
from services.api.problems import FieldError
from services.api.schemas import Answer, Body, N
from streaming.events import Attributes, Categories, Id, Kind, Millis

MAX_GIVEN = 500
MAX_REQUESTS = 100

Excluded = Annotated[list[Id], Meta(max_length=1_000)]
Weight = Annotated[float, Meta(ge=-100, le=100)]


class SessionEvent(Body, frozen=True):
    """Something that happened in the session and that need not be collected yet; oldest first."""

    item_id: Id
    kind: Kind = Kind.VIEW
    value: float | None = None
    happened_at: Millis | None = None


class Session(Body, frozen=True):
    """A guest's session and what happened in it."""

    session_id: Id | None = None
    events: Annotated[list[SessionEvent], Meta(max_length=200)] = field(default_factory=list)


class SessionRequest(Session, frozen=True):
    """What to show a guest. Nothing is known of a guest but `events`; without any it is what others use.

    `cursor` is the one of the answer before, with the rest of the body as it was then, `n` and `events` aside: the page
    after it repeats nothing that was shown. `why` adds to each item what speaks for it.
    """

    n: N = 20
    surface: Id = "home"
    categories: Categories = field(default_factory=list)
    exclude: Excluded = field(default_factory=list)
    context: Attributes = field(default_factory=dict)
    cursor: str | None = None
    why: bool = False


class RecommendRequest(SessionRequest, frozen=True):
    """For whom and how many. At least one of user_id, session_id and events says for whom."""

    user_id: Id | None = None


class SlateItem(Answer, frozen=True):
    """One item of a slate; `source` is where the candidate came from, `why` what speaks for it, if that was asked."""

    item_id: str
    score: float
    source: str
    position: int
    why: str | UnsetType = UNSET


class RecommendAnswer(Answer, frozen=True):
    """A slate, top first. Clicks on it carry `request_id`, and `session_id` when there is no user.

    `fallbacks` names what could not be used and was replaced; `model_version` is null without a model. `cursor` asks
    for the next page, whose positions go on from here; it is null when there is none, and holds for an hour.
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
    cursor: str | None


class RecommendBatch(Body, frozen=True):
    """Several requests, each like one of /v1/recommend."""

    requests: Annotated[list[RecommendRequest], Meta(min_length=1, max_length=MAX_REQUESTS)]


class BatchResult(Answer, frozen=True):
    """One request's answer, or else what is wrong with it."""

    answer: RecommendAnswer | None
    errors: list[FieldError]


class BatchAnswer(Answer, frozen=True):
    """The results in the order of the requests."""

    results: list[BatchResult]


class SimilarRequest(Body, frozen=True):
    """Which item to find similar ones for, as the surface's filters of items allow."""

    item_id: Id
    n: N = 20
    categories: Categories = field(default_factory=list)
    exclude: Excluded = field(default_factory=list)
    surface: Id = "home"


class SimilarAnswer(Answer, frozen=True):
    """Items like the one asked for, most similar first."""

    slate: list[SlateItem]
    model_version: str | None
    fallbacks: list[str]


class RankRequest(Session, frozen=True, kw_only=True):
    """A list to order for a user or a session. Which of the items may be shown is for the caller to say.

    `weights` of conversions take the place of the surface's. With `log` the order counts as shown on `surface`, and
    clicks on it can be learnt from.
    """

    items: Annotated[list[Id], Meta(min_length=1, max_length=MAX_GIVEN)]
    user_id: Id | None = None
    surface: Id = "home"
    weights: dict[ConversionName, Weight] | None = None
    log: bool = False


class RankedItem(Answer, frozen=True):
    """One item of the order. An item that is not `known` has no score and stands behind all that are."""

    item_id: str
    position: int
    known: bool
    score: float | None


class RankAnswer(Answer, frozen=True):
    """Every item that was given, once, best first. `request_id`, for clicks to carry, is null unless it was logged."""

    items: list[RankedItem]
    request_id: str | None
    surface: str
    model_version: str | None
    fallbacks: list[str]
    session_id: str | None


class PopularRequest(Body, frozen=True):
    """How many of the most used items; no categories means all."""

    n: N = 20
    categories: Categories = field(default_factory=list)
    exclude: Excluded = field(default_factory=list)


class UsedItem(Answer, frozen=True):
    """An item and how often it was used."""

    item_id: str
    uses: int


class PopularAnswer(Answer, frozen=True):
    """The most used items that may be shown, most used first, counted over `days`; none that nobody used."""

    items: list[UsedItem]
    days: int


class SurfaceRules(Answer, frozen=True):
    """A surface and the rules in force there."""

    name: str
    rules: dict[str, Any]


class SurfacesAnswer(Answer, frozen=True):
    """The surfaces by name, and the version of their rules."""

    version: str
    surfaces: list[SurfaceRules]


class LoadedModel(Answer, frozen=True):
    """The model that answers; `trained_until` is the end of what it was trained on, `conversions` what it predicts."""

    model_version: str
    trained_until: int
    conversions: list[str]


class ModelsAnswer(Answer, frozen=True):
    """The model that answers, null without one, and the version that this process served before it, if any."""

    loaded: LoadedModel | None
    previous: str | None
