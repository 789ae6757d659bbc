"""What tells whether something kept from a topic still fits it: its identity, its bounds, how long deletions last."""

from collections.abc import Mapping
from dataclasses import dataclass

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.connection import unconnected
from streaming.offsets import bounds

_DELETE_RETENTION = "delete.retention.ms"


@dataclass(frozen=True)
class TopicState:
    """A topic at one time: offsets by partition of its first record and after its last.

    A topic that was deleted and made again has another `topic_id`; None when the broker gives none.
    A compacted topic keeps the mark of a deletion for `deletions_kept_ms` after its compaction.
    """

    topic_id: str | None
    first: Mapping[int, int]
    end: Mapping[int, int]
    deletions_kept_ms: int


def topic_states(kafka: KafkaSettings, topics: list[str]) -> dict[str, TopicState]:
    """Return the state of each of the topics; raises BrokerUnavailable, and KafkaError when one does not exist."""
    try:
        admin = KafkaAdminClient(**client_options(kafka))
    except KafkaError as error:
        raise unconnected(kafka, error) from error
    try:
        ids = {described["name"]: described.get("topic_id") for described in admin.describe_topics(topics)}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
        configs = admin.describe_configs(resources, config_filter="all")["topic"]
    finally:
        admin.close()
    found = bounds(kafka, topics)
    return {
        name: TopicState(
            topic_id=None if ids[name] is None else str(ids[name]),
            first={part.partition: first for part, (first, _) in found.items() if part.topic == name},
            end={part.partition: end for part, (_, end) in found.items() if part.topic == name},
            deletions_kept_ms=int(configs[name][_DELETE_RETENTION]["value"]),
        )
        for name in topics
    }
