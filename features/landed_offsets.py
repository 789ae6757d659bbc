"""How far landing has come, read without a JVM."""

import pyarrow.compute as pc

from features.config import LakeSettings
from features.snapshots import read_table
from streaming.config import KafkaSettings
from streaming.namespace import Namespace


def landed_until(lake: LakeSettings, kafka: KafkaSettings, namespace: Namespace, topic: str) -> dict[int, int]:
    """Return by partition of a topic the offset from which on nothing has landed yet; raises SnapshotMissing."""
    columns = ("topic", "partition", "until_offset")
    landings = read_table(lake, namespace, "landings", columns=columns).arrow
    of_topic = landings.filter(pc.equal(landings["topic"], topic))
    since = dict.fromkeys(range(kafka.partitions), 0)
    for partition, until in zip(*(of_topic[name].to_pylist() for name in columns[1:]), strict=True):
        since[partition] = max(since.get(partition, 0), until)
    return since
