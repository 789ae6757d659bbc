"""Rebuilding what is derived from the lake: histories and features in the online store, the catalogue's topic.

The lake and what the log holds behind it are the system of record. Everything here is merged into what is there, so a
rebuild beside the living system changes nothing that is right, and one that is run again changes nothing.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from features.config import LakeSettings
from features.landed import ms
from features.landed_events import landed_event
from features.snapshots import read_batches, read_table
from features.updater import HistoryUpdater
from streaming.bounded import raw_records, records
from streaming.config import KafkaSettings
from streaming.consumer import Received
from streaming.events import ItemUpserted
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topics import Topics


def rebuild_histories(lake: LakeSettings, kafka: KafkaSettings, topics: Topics, updater: HistoryUpdater) -> int:
    """Merge every interaction of the lake, and of the log behind it, into the histories; returns how many were read.

    Raises SnapshotMissing without a lake, and what `HistoryUpdater.update` raises.
    """
    count, since = 0, _landed_until(lake, kafka, topics)  # before the rows are read: what lands meanwhile is read twice
    tail = records(kafka, topics.interactions, since=since)
    for received in itertools.chain(landed_interactions(lake, topics.namespace), tail):
        updater.update(received)
        count += len(received)
    return count


def landed_interactions(lake: LakeSettings, namespace: Namespace) -> Iterator[list[Received]]:
    """Yield the landed interactions in batches, in no order, as a consumer would have received them."""
    for batch in read_batches(lake, namespace, "interactions"):
        yield [_received(row) for row in batch.to_pylist()]


def rebuild_catalogue(lake: LakeSettings, kafka: KafkaSettings, topics: Topics, producer: EventProducer) -> int:
    """Publish the newest state of every item that the lake has and the topic does not; returns how many those were.

    What the topic has of an item, a removal included, is newer or the same. Raises NotDurable and SnapshotMissing.
    """
    held = {record.key for batch in raw_records(kafka, topics.items) for record in batch}
    missing = [item for item in _current_items(lake, topics.namespace) if item.item_id.encode() not in held]
    producer.publish(missing)
    return len(missing)


def _current_items(lake: LakeSettings, namespace: Namespace) -> list[ItemUpserted]:
    rows: dict[str, Mapping[str, Any]] = {}
    for batch in read_batches(lake, namespace, "items"):
        for row in batch.to_pylist():
            known = rows.get(row["item_id"])
            if known is None or known["offset"] < row["offset"]:  # an item's records lie in one partition
                rows[row["item_id"]] = row
    events = (landed_event("items", row) for row in rows.values() if not row["removed"])
    return [event for event in events if isinstance(event, ItemUpserted)]


def _landed_until(lake: LakeSettings, kafka: KafkaSettings, topics: Topics) -> dict[int, int]:
    """Return by partition of the interactions the offset from which on nothing has landed yet."""
    columns = ("topic", "partition", "until_offset")
    landings = read_table(lake, topics.namespace, "landings", columns=columns).arrow
    of_topic = landings.filter(pa.compute.equal(landings["topic"], topics.interactions))
    since = dict.fromkeys(range(kafka.partitions), 0)
    for partition, until in zip(*(of_topic[name].to_pylist() for name in columns[1:]), strict=True):
        since[partition] = max(since.get(partition, 0), until)
    return since


def _received(row: Mapping[str, Any]) -> Received:
    event = landed_event("interactions", row)
    return Received(event, None, row["topic"], row["partition"], row["offset"], ms(row["appended_at"]))
