"""How far a consumer group is behind the log."""

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorNotAvailableError, NotCoordinatorError

from streaming.config import KafkaSettings, client_options


def lag(kafka: KafkaSettings, topic: str, group: str) -> int:
    """Return how many records of `topic` lie behind what `group` has committed; all of them before its first commit.

    A group whose coordinator is not elected yet counts as one that has committed nothing.
    Raises kafka.errors.KafkaError when the broker does not answer.
    """
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        committed = admin.list_group_offsets(group)[group]
    except (CoordinatorNotAvailableError, NotCoordinatorError):
        committed = {}
    finally:
        admin.close()
    return sum(
        max(0, end - (committed[partition].offset if partition in committed else first))
        for partition, (first, end) in _offsets(kafka, topic).items()
    )


def _offsets(kafka: KafkaSettings, topic: str) -> dict[TopicPartition, tuple[int, int]]:
    consumer = KafkaConsumer(**client_options(kafka), enable_auto_commit=False)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        return {partition: (first[partition], end[partition]) for partition in partitions}
    finally:
        consumer.close()
