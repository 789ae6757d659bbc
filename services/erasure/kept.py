"""How long Kafka keeps what was appended by some time: retention and segments, or compaction and its marks."""

from collections.abc import Mapping

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.errors import BrokerUnavailable
from streaming.topics import Topics, dead_letters, parked

_CHECKS_MS = 3_600_000  # the broker looks every few minutes, and deletes files a minute later


def topics_of_users(topics: Topics) -> list[str]:
    """Return the topics in which ids of users or of their sessions occur."""
    own = [topics.interactions, topics.impressions, topics.identities, topics.users]
    return [*own, *(side(topic) for topic in own for side in (dead_letters, parked))]


def kept_for_ms(kafka: KafkaSettings, topics: Topics) -> dict[str, int]:
    """Return for each of these topics how long at most a record stays on a broker's disk after its append, ms.

    A segment goes when its newest record is old enough; a compacted key goes with its null record, which is kept for
    `delete.retention.ms` after it. Raises BrokerUnavailable.
    """
    try:
        admin = KafkaAdminClient(**client_options(kafka))
    except KafkaError as error:
        raise BrokerUnavailable(f"no broker answers at {kafka.bootstrap_servers}: {error}") from error
    try:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics_of_users(topics)]
        found = admin.describe_configs(resources, config_filter="all")["topic"]
    finally:
        admin.close()
    return {name: _kept({key: config["value"] for key, config in configs.items()}) for name, configs in found.items()}


def _kept(config: Mapping[str, str]) -> int:
    segment = int(config["segment.ms"])
    if "compact" in config["cleanup.policy"]:
        return segment + int(config["max.compaction.lag.ms"]) + int(config["delete.retention.ms"]) + _CHECKS_MS
    return segment + int(config["retention.ms"]) + _CHECKS_MS
