"""What tells whether something kept from a topic still fits it: its identity, its bounds, how long deletions last."""

from collections.abc import Mapping
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.connection import unconnected

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
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    try:
        ids = {described["name"]: described.get("topic_id") for described in admin.describe_topics(topics)}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics]
        configs = admin.describe_configs(resources, config_filter="all")["topic"]
        return {
            name: TopicState(
                topic_id=None if ids[name] is None else str(ids[name]),
                **_bounds(consumer, name),
                deletions_kept_ms=int(configs[name][_DELETE_RETENTION]["value"]),
            )
            for name in topics
        }
    finally:
        consumer.close()
        admin.close()


def _bounds(consumer: KafkaConsumer, topic: str) -> dict[str, dict[int, int]]:
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    return {
        "first": {partition.partition: first[partition] for partition in partitions},
        "end": {partition.partition: end[partition] for partition in partitions},
    }
