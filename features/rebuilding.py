"""Rebuilding what is derived from the lake: histories and features in the online store, the catalogue's topic.

The lake and what the log holds behind it are the system of record. Everything here is merged into what is there, so a
rebuild beside the living system changes nothing that is right, and one that is run again changes nothing.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from features.config import LakeSettings
from features.landed import ms
from features.landed_events import landed_event
from features.landed_offsets import landed_until
from features.snapshots import read_batches
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
    # Before the rows are read: what lands meanwhile is read twice.
    count, since = 0, landed_until(lake, kafka, topics)[topics.interactions]
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
            # An item's records lie in one partition.
            if known is None or (known["happened_at"], known["offset"]) < (row["happened_at"], row["offset"]):
                rows[row["item_id"]] = row
    events = (landed_event("items", row) for row in rows.values() if not row["removed"])
    return [event for event in events if isinstance(event, ItemUpserted)]


def _received(row: Mapping[str, Any]) -> Received:
    event = landed_event("interactions", row)
    return Received(event, None, row["topic"], row["partition"], row["offset"], ms(row["appended_at"]))
