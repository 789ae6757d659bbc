"""How long Kafka keeps what was appended by some time: retention and segments, or compaction and its marks."""

from collections.abc import Iterator, Mapping
from contextlib import closing

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from services.erasure.receipt import StoreEntry, iso
from streaming.config import KafkaSettings, client_options
from streaming.connection import unconnected
from streaming.errors import BrokerUnavailable
from streaming.topics import Topics, dead_letters, parked

_CHECKS_MS = 3_600_000  # the broker looks every few minutes, and deletes files a minute later
_LONGEST_MS = 7_000 * 366 * 86_400_000  # a later date may lie beyond the year 9999
_FOR_EVER = "kept for ever: set retention.ms / max.compaction.lag.ms"


def topics_of_users(topics: Topics) -> list[str]:
    """Return the topics in which ids of users or of their sessions occur."""
    own = [topics.interactions, topics.impressions, topics.identities, topics.users]
    return [*own, *(side(topic) for topic in own for side in (dead_letters, parked))]


def kept_for_ms(kafka: KafkaSettings, topics: Topics) -> dict[str, int | None]:
    """Return for each of these topics how long at most a record stays on a broker's disk after its append, ms.

    None = for ever. A segment goes when its newest record is old enough; a compacted key goes with its null record,
    which is kept for `delete.retention.ms` after it. Raises BrokerUnavailable, of a topic that is not there as well.
    """
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in topics_of_users(topics)]
    try:
        with closing(KafkaAdminClient(**client_options(kafka))) as admin:
            found = admin.describe_configs(resources, config_filter="all")["topic"]
    except KafkaError as error:
        raise unconnected(kafka, error) from error
    if hidden := [name for name, configs in found.items() if not configs]:
        raise BrokerUnavailable(
            f"the broker tells nothing of topic {', '.join(map(repr, hidden))}: run `flywheel topics`, or let this "
            "client describe their settings"
        )
    return {name: _kept({key: config["value"] for key, config in configs.items()}) for name, configs in found.items()}


def topic_entries(kafka: KafkaSettings, topics: Topics, cut: int) -> Iterator[StoreEntry]:
    """Yield what a receipt says of each topic: by when what was appended up to `cut`, ms UTC, is gone.

    Raises BrokerUnavailable.
    """
    for topic, kept_ms in kept_for_ms(kafka, topics).items():
        gone_by = None if kept_ms is None else iso(cut + kept_ms)
        note = _FOR_EVER if gone_by is None else "every reader drops it until then"
        yield StoreEntry(store=f"topic {topic}", removed={}, gone_by=gone_by, note=note)


def _kept(config: Mapping[str, str]) -> int | None:
    compacted = "compact" in config["cleanup.policy"]
    names = ["max.compaction.lag.ms", "delete.retention.ms"] if compacted else ["retention.ms"]
    bounds = [int(config[name]) for name in ["segment.ms", *names]]
    return sum(bounds) + _CHECKS_MS if min(bounds) >= 0 and sum(bounds) <= _LONGEST_MS else None
