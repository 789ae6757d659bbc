"""The topics: their names, which event goes where under which key, and how they are created."""

from dataclasses import dataclass
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.connection import unconnected
from streaming.errors import FlywheelError
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
    UserErased,
    UserUpserted,
)
from streaming.namespace import Namespace

REPLAYABLE_HOURS = 24
"""For how long every version of an item stays in the log."""

_HOUR_MS = 3_600_000


class TopicMismatch(FlywheelError):
    """A topic exists with another number of partitions; growing it would break the order of its keys."""


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
    def landed(self) -> tuple[str, ...]:
        """The topics that land in the lake."""
        return (self.items, self.users, self.impressions, self.interactions, self.identities)

    @property
    def compacted(self) -> tuple[str, ...]:
        """The topics that keep the latest record of each key."""
        return (self.items, self.users, self.models, self.erasures)

    def of(self, event: Event) -> str:  # noqa: PLR0911 - one for each topic
        """Return the topic that carries `event`."""
        match event:
            case ItemUpserted() | ItemRemoved():
                return self.items
            case UserUpserted() | UserErased():
                return self.users
            case Impression():
                return self.impressions
            case Interaction():
                return self.interactions
            case IdentityLinked():
                return self.identities
            case ModelPromoted():
                return self.models
            case ErasureEntered() | ErasureCompleted():
                return self.erasures


def dead_letters(topic: str) -> str:
    """Return the topic of the records of `topic` that do not decode or break a rule."""
    return f"{topic}.dlq"


def parked(topic: str) -> str:
    """Return the topic of the records of `topic` that a later release may understand."""
    return f"{topic}.parked"


def key_of(event: Event) -> bytes:
    """Return the record key: what must stay in order, or be compacted, together."""
    match event:
        case ItemUpserted() | ItemRemoved():
            key = event.item_id
        case UserUpserted() | UserErased():
            key = event.user_id
        case Impression() | Interaction():
            key = event.user_id if event.user_id is not None else f"session:{event.session_id}"
        case IdentityLinked():
            key = event.session_id
        case ModelPromoted():
            key = "champion"
        case ErasureEntered():
            key = event.mark
        case ErasureCompleted():  # beside the entry, not in its place: a newer entry must not be lost to it
            key = f"completed:{event.mark}"
    return key.encode()


def ensure_topics(kafka: KafkaSettings, topics: Topics) -> list[str]:
    """Create the topics that do not exist yet and return their names.

    Raises TopicMismatch when one exists with another partition count than the settings ask for, and BrokerUnavailable.
    """
    wanted = _definitions(kafka, topics)
    try:
        admin = KafkaAdminClient(**client_options(kafka), bootstrap_timeout_ms=10_000)
    except KafkaError as error:
        raise unconnected(kafka, error) from error
    try:
        existing = set(admin.list_topics()) & set(wanted)
        _refuse_mismatch(admin, wanted, existing)
        missing = sorted(set(wanted) - existing)
        if missing:
            admin.create_topics({name: wanted[name] for name in missing}, wait_for_metadata=True)
        return missing
    finally:
        admin.close()


def _refuse_mismatch(admin: KafkaAdminClient, wanted: dict[str, dict[str, Any]], existing: set[str]) -> None:
    if not existing:
        return
    for description in admin.describe_topics(sorted(existing)):
        name, found = description["name"], len(description["partitions"])
        asked = wanted[name]["num_partitions"]
        if found != asked:
            raise TopicMismatch(
                f"topic {name!r} has {found} partitions and the settings ask for {asked}: "
                "a keyed topic is not resized; set kafka.partitions to what exists"
            )


def _definitions(kafka: KafkaSettings, topics: Topics) -> dict[str, dict[str, Any]]:
    kept = {"retention.ms": str(kafka.retention_hours * _HOUR_MS)}
    # The log's own time decides retention: replayed events happened long ago and must not expire at once.
    common = {
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(kafka.min_insync_replicas),
        "segment.ms": str(24 * _HOUR_MS),
    }
    compacted = {"cleanup.policy": "compact", "max.compaction.lag.ms": str(24 * _HOUR_MS)}
    # What an item was in the last day stays, so that a slate of then can be computed again.
    items = compacted | {
        "min.compaction.lag.ms": str(REPLAYABLE_HOURS * _HOUR_MS),
        "max.compaction.lag.ms": str(2 * REPLAYABLE_HOURS * _HOUR_MS),
    }
    names: list[tuple[str, int, dict[str, str]]] = [
        (topics.items, kafka.partitions, common | items),
        (topics.users, kafka.partitions, common | compacted),
        (topics.models, 1, common | compacted),
        (topics.erasures, 1, common | compacted),
        (topics.impressions, kafka.partitions, common | kept),
        (topics.interactions, kafka.partitions, common | kept),
        (topics.identities, kafka.partitions, common | kept),
    ]
    names += [(side(topic), 1, common | kept) for topic in topics.landed for side in (dead_letters, parked)]
    return {
        name: {"num_partitions": partitions, "replication_factor": kafka.replication_factor, "configs": configs}
        for name, partitions, configs in names
    }
