"""How far landing has come, read without a JVM."""

from features.config import LakeSettings
from features.snapshots import read_table
from streaming.config import KafkaSettings
from streaming.topics import Topics


def landed_until(lake: LakeSettings, kafka: KafkaSettings, topics: Topics) -> dict[str, dict[int, int]]:
    """Return by topic and partition the offset from which on nothing has landed yet; raises SnapshotMissing."""
    columns = ("topic", "partition", "until_offset")
    landings = read_table(lake, topics.namespace, "landings", columns=columns).arrow
    found = {topic: dict.fromkeys(range(kafka.partitions), 0) for topic in topics.landed}
    for topic, partition, until in zip(*(landings[name].to_pylist() for name in columns), strict=True):
        of_topic = found.setdefault(topic, {})
        of_topic[partition] = max(of_topic.get(partition, 0), until)
    return found
