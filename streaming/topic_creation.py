"""How the topics are created, and what is refused about those that exist."""

from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.connection import unconnected
from streaming.errors import FlywheelError
from streaming.topics import ACCOUNTED_HOURS, REPLAYABLE_HOURS, Topics, dead_letters, parked

_HOUR_MS = 3_600_000


class TopicMismatch(FlywheelError):
    """A topic exists with another number of partitions; growing it would break the order of its keys."""


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
    accounted = {"retention.ms": str(min(kafka.retention_hours, ACCOUNTED_HOURS) * _HOUR_MS)}
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
        (topics.acknowledgements, 1, common | accounted),
    ]
    names += [(side(topic), 1, common | kept) for topic in topics.landed for side in (dead_letters, parked)]
    return {
        name: {"num_partitions": partitions, "replication_factor": kafka.replication_factor, "configs": configs}
        for name, partitions, configs in names
    }
