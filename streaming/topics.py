"""The topics: their names, and which event goes where under which key."""

from dataclasses import dataclass

from streaming.events import (
    ErasureCompleted,
    ErasureEntered,
    Event,
    IdentityLinked,
    Impression,
    Interaction,
    ItemRemoved,
    ItemUpserted,
    ModelPromoted,
    RecordsAcknowledged,
    UserErased,
    UserUpserted,
)
from streaming.namespace import Namespace

REPLAYABLE_HOURS = 24
"""For how long every version of an item stays in the log."""

ACCOUNTED_HOURS = 48
"""For how long, at least, the log says what was acknowledged; each audit reads all of it."""


@dataclass(frozen=True)
class Topics:
    """The topic names of one namespace."""

    namespace: Namespace

    @property
    def items(self) -> str:
        """The catalogue, compacted, keyed by item."""
        return f"{self.namespace}.items"

    @property
    def users(self) -> str:
        """The users' attributes, compacted, keyed by user."""
        return f"{self.namespace}.users"

    @property
    def impressions(self) -> str:
        """The slates shown, keyed by user or session."""
        return f"{self.namespace}.impressions"

    @property
    def interactions(self) -> str:
        """What users did, keyed by user or session."""
        return f"{self.namespace}.interactions"

    @property
    def identities(self) -> str:
        """Sessions that turned out to be users, keyed by session."""
        return f"{self.namespace}.identities"

    @property
    def models(self) -> str:
        """Announcements of the champion, compacted."""
        return f"{self.namespace}.models"

    @property
    def erasures(self) -> str:
        """The ledger of erasures, compacted, keyed by mark."""
        return f"{self.namespace}.erasures"

    @property
    def acknowledgements(self) -> str:
        """What Kafka acknowledged to our services, for the audit, keyed by outbox."""
        return f"{self.namespace}.acknowledgements"

    @property
    def landed(self) -> tuple[str, ...]:
        """The topics that land in the lake."""
        return (self.items, self.users, self.impressions, self.interactions, self.identities)

    @property
    def states(self) -> tuple[str, ...]:
        """The topics of whose keys many services send newer and newer states."""
        return (self.items, self.users)

    @property
    def compacted(self) -> tuple[str, ...]:
        """The topics that keep the latest record of each key."""
        return (*self.states, self.models, self.erasures)

    def of(self, event: Event) -> str:  # noqa: PLR0911 - one for each topic
        """Return the topic that carries `event`."""
        match event:  # the most frequent first
            case Interaction():
                return self.interactions
            case Impression():
                return self.impressions
            case ItemUpserted() | ItemRemoved():
                return self.items
            case UserUpserted() | UserErased():
                return self.users
            case IdentityLinked():
                return self.identities
            case ModelPromoted():
                return self.models
            case ErasureEntered() | ErasureCompleted():
                return self.erasures
            case RecordsAcknowledged():
                return self.acknowledgements


def dead_letters(topic: str) -> str:
    """Return the topic of the records of `topic` that do not decode or break a rule."""
    return f"{topic}.dlq"


def parked(topic: str) -> str:
    """Return the topic of the records of `topic` that a later release may understand."""
    return f"{topic}.parked"


def key_of(event: Event) -> bytes:
    """Return the record key: what must stay in order, or be compacted, together."""
    match event:
        case Interaction() | Impression():
            key = event.user_id if event.user_id is not None else f"session:{event.session_id}"
        case ItemUpserted() | ItemRemoved():
            key = event.item_id
        case UserUpserted() | UserErased():
            key = event.user_id
        case IdentityLinked():
            key = event.session_id
        case ModelPromoted():
            key = "champion"
        case ErasureEntered():
            key = event.mark
        case ErasureCompleted():  # beside the entry, not in its place: a newer entry must not be lost to it
            key = f"completed:{event.mark}"
        case RecordsAcknowledged():
            key = event.outbox
    return key.encode()
