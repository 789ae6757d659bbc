"""The events: everything that can happen, as a closed union with one wire format (JSON, tagged by `type`).

Times are epoch milliseconds UTC. Changes are additive; `schema_version` is the major version of an event's meaning.
Golden files of every released version live in `tests/contracts/golden`.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, field

from streaming.ids import RequestId

SCHEMA_VERSION = 1

PROBE_SURFACE = "probe"
"""What happens on this surface measures Flywheel itself; nothing is learnt from it."""

_MAX_ID = 200
_MAX_MS = 253_402_300_799_999  # the last millisecond of the year 9999

Id = Annotated[str, Meta(min_length=1, max_length=_MAX_ID)]
Millis = Annotated[int, Meta(ge=0, le=_MAX_MS)]
Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
"""A number that models can compute with: they do in 32 bits."""

ShortText = Annotated[str, Meta(max_length=500)]
LongText = Annotated[str, Meta(max_length=20_000)]
Attributes = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=100)], ShortText | Number | bool], Meta(max_length=100)
]
Categories = Annotated[list[Annotated[str, Meta(min_length=1, max_length=100)]], Meta(max_length=50)]


class Kind(StrEnum):
    """What a user did with an item."""

    VIEW = "view"
    CLICK = "click"
    LIKE = "like"
    RATING = "rating"
    PURCHASE = "purchase"
    SKIP = "skip"
    HIDE = "hide"

    @property
    def is_negative(self) -> bool:
        """Whether the act says that the user does not want the item."""
        return self in (Kind.SKIP, Kind.HIDE)


class Envelope(Struct, kw_only=True, frozen=True, omit_defaults=True, tag_field="type"):
    """What every event carries.

    `happened_at` is the event's own time and decides everywhere; `received_at` is when Flywheel first saw it.
    `source_time` is the original time of a replayed event whose times were shifted.
    """

    event_id: Id
    happened_at: Millis
    received_at: Millis
    producer: Id
    # A factory, since `omit_defaults` would leave a plain default off the wire.
    schema_version: Annotated[int, Meta(ge=1)] = field(default_factory=lambda: SCHEMA_VERSION)
    source_time: Millis | None = None


class ItemUpserted(Envelope, frozen=True, tag="item_upserted"):
    """An item was added or changed; the newest one per item holds."""

    item_id: Id
    title: ShortText = ""
    categories: Categories = []
    attributes: Attributes = {}
    text: LongText = ""
    available_from: Millis | None = None
    available_until: Millis | None = None
    hidden: bool = False


class ItemRemoved(Envelope, frozen=True, tag="item_removed"):
    """An item is gone; a null record with the same key follows it."""

    item_id: Id


class UserUpserted(Envelope, frozen=True, tag="user_upserted"):
    """A user was added or changed."""

    user_id: Id
    attributes: Attributes = {}


class UserErased(Envelope, frozen=True, tag="user_erased"):
    """A user asked to be forgotten."""

    user_id: Id


class ErasureEntered(Envelope, frozen=True, tag="erasure_entered"):
    """An erasure stands in the ledger: what its owner did up to the append of this record is dropped for ever.

    `mark` stands for the owner, a user or a guest's session (`streaming.marks`); the id itself is not in it.
    """

    mark: Id


class ErasureCompleted(Envelope, frozen=True, tag="erasure_completed"):
    """Every store was cleared of what the owner of `mark` did up to `cut`, ms UTC."""

    mark: Id
    cut: Millis


class IdentityLinked(Envelope, frozen=True, tag="identity_linked"):
    """A guest's session turned out to be a known user."""

    session_id: Id
    user_id: Id


class Interaction(Envelope, frozen=True, tag="interaction"):
    """A user (or a guest's session) did something with an item; `request_id` names the slate that it answers."""

    item_id: Id
    kind: Kind
    user_id: Id | None = None
    session_id: Id | None = None
    surface: Id | None = None
    value: Number | None = None
    request_id: Id | None = None
    position: Annotated[int, Meta(ge=0, le=10_000)] | None = None


class SlateItem(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One shown item.

    `propensity` is the probability of this item at this position given the items above it, under the policy that was
    executed; `fixed` marks an item that no draw put there. `rules` names the pin and the boosts that moved it.
    """

    item_id: Id
    position: int
    score: float
    propensity: Annotated[float, Meta(gt=0, le=1)]
    source: Id
    fixed: bool = False
    rules: list[Id] = []


class LoggedState(Struct, kw_only=True, frozen=True):
    """The user state that a slate was computed from, newest item last."""

    history: list[Id]
    features: dict[str, str | float]


class ReplayInputs(Struct, kw_only=True, frozen=True):
    """What a slate was computed from beside the logged state; it makes a sample of slates reproducible.

    `history` is the whole history as `features.history` encodes it, `exclude` every other item that was ruled out,
    `shown` what the list's pages before had, `interaction_offsets` up to where popularity had followed its topic, by
    partition.
    """

    n: int
    categories: list[str]
    exclude: list[Id]
    shown: list[Id]
    history: bytes
    interaction_offsets: dict[str, int]


class Impression(Envelope, frozen=True, tag="impression"):
    """A slate was answered; its `event_id` is the request's id and `happened_at` our time of answering.

    `surfaces_version` is that of the rules it was made by. `policy` says which policy was executed: `ranked` shows the
    ranked order, `explored` draws as the surface says, `uniform` draws uniformly over the candidates.
    """

    surface: Id
    variant: Id
    slate: Annotated[list[SlateItem], Meta(max_length=1000)]
    seed: int
    user_id: Id | None = None
    session_id: Id | None = None
    model_version: Id | None = None
    fallbacks: list[Id] = []
    user_state: LoggedState | None = None
    catalogue_offsets: dict[str, int] = {}
    surfaces_version: Id | None = None
    policy: Id | None = None
    replay: ReplayInputs | None = None

    @property
    def request_id(self) -> RequestId:
        """The id that clicks on this slate carry."""
        return RequestId(self.event_id)


class ModelPromoted(Envelope, frozen=True, tag="model_promoted"):
    """Another model version became the champion."""

    model_version: Id
    champion_number: Annotated[int, Meta(ge=1)]


class AcknowledgedOffsets(Struct, kw_only=True, frozen=True):
    """Offsets of a partition, as ranges of the first and the last one; no range follows directly on another."""

    topic: Id
    partition: Annotated[int, Meta(ge=0)]
    ranges: list[tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=0)]]]


class RecordsAcknowledged(Envelope, frozen=True, tag="records_acknowledged"):
    """All in-sync replicas have acknowledged these offsets to an outbox: no audit may find them missing.

    An outbox numbers what it tells from 1 on; the same number again is the same telling.
    """

    outbox: Id
    number: Annotated[int, Meta(ge=1)]
    offsets: list[AcknowledgedOffsets]


Event = (
    ItemUpserted
    | ItemRemoved
    | UserUpserted
    | UserErased
    | ErasureEntered
    | ErasureCompleted
    | IdentityLinked
    | Interaction
    | Impression
    | ModelPromoted
    | RecordsAcknowledged
)
