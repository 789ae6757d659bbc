"""How far a consumer group is behind the log."""

from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

from streaming.config import KafkaSettings, client_options
from streaming.offsets import bounds


def lag(kafka: KafkaSettings, topic: str, group: str) -> int:
    """Return how many records of `topic` lie behind what `group` has committed; all of them before its first commit.

    A group whose coordinator is not elected, or has not read its log yet, counts as one that has committed nothing.
    Raises BrokerUnavailable or kafka.errors.KafkaError when the broker does not answer.
    """
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        committed = admin.list_group_offsets(group)[group]
    except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError):
        committed = {}
    finally:
        admin.close()
    return sum(
        max(0, end - (committed[partition].offset if partition in committed else first))
        for partition, (first, end) in bounds(kafka, [topic]).items()
    )
