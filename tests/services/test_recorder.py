"""The recorder: bounded in number, size and time, with a real Valkey, and accounted for when there is none."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from features.config import StoreSettings, store_url
from features.history import History
from features.slate_records import SlateRecords
from services.metrics import RecordMetrics
from services.recommend.recorder import RecordBounds, SlateRecorder
from streaming.events import Impression, SlateItem
from streaming.ids import RequestId
from streaming.namespace import Namespace

FAR = 4_000_000_000_000  # ms; Valkey goes by its own clock


def impression(request_id: str, items: int = 1) -> Impression:
    slate = [
        SlateItem(item_id=f"{number}".ljust(200, "x"), position=number, score=0.0, propensity=1.0, source="s")
        for number in range(items)
    ]
    return Impression(
        event_id=request_id,
        happened_at=1,
        received_at=1,
        producer="test",
        surface="home",
        variant="champion",
        slate=slate,
        seed=1,
        user_id="u",
    )


class Recording:
    """A recorder of a namespace, and what it has counted."""

    def __init__(self, store: StoreSettings, namespace: Namespace, bounds: RecordBounds) -> None:
        self._registry = CollectorRegistry()
        metrics = RecordMetrics(self._registry)
        self.recorder = SlateRecorder(SlateRecords(store, namespace), bounds, metrics, lambda: FAR)

    def record(self, *impressions: Impression) -> None:
        for one in impressions:
            self.recorder.offer(one, History())
        self.recorder.start()
        self.recorder.stop(30)

    def count(self, status: str) -> float:
        return self._registry.get_sample_value("flywheel_slate_records_total", {"status": status}) or 0


@pytest.fixture
def stored(valkey: StoreSettings, namespace: Namespace) -> Callable[[], set[str]]:
    def found() -> set[str]:
        with Redis.from_url(store_url(valkey)) as client:
            keys: Any = client.scan_iter(f"flywheel:{namespace}:slate:*")
            return {key.decode().rpartition(":")[2] for key in keys}

    return found


def test_of_many_slates_the_newest_are_kept(
    valkey: StoreSettings, namespace: Namespace, stored: Callable[[], set[str]]
) -> None:
    recording = Recording(valkey, namespace, RecordBounds(1.0, 7, 15))
    recording.record(*(impression(f"r{number}") for number in range(40)))
    assert stored() == {f"r{number}" for number in range(33, 40)}
    assert recording.count("written") == 40
    assert SlateRecords(valkey, namespace).delete_user("u") == 7


def test_a_slate_too_large_for_a_record_is_left_out(
    valkey: StoreSettings, namespace: Namespace, stored: Callable[[], set[str]]
) -> None:
    recording = Recording(valkey, namespace, RecordBounds(1.0, 10, 15))
    recording.record(impression("small"), impression("huge", 1_000))
    assert stored() == {"small"}
    assert (recording.count("written"), recording.count("too_large")) == (1, 1)


def test_without_a_store_every_slate_is_counted_as_lost(namespace: Namespace) -> None:
    nowhere = StoreSettings(redis_url="redis://127.0.0.1:1/0")
    recording = Recording(nowhere, namespace, RecordBounds(1.0, 100, 15))
    recording.record(*(impression(f"r{number}") for number in range(250)))
    assert (recording.count("written"), recording.count("lost")) == (0, 250)


def test_the_share_of_requests_that_is_recorded_depends_on_the_id_alone() -> None:
    ids = [RequestId(uuid.UUID(int=number * 7919).hex) for number in range(4_000)]
    taken = [RecordBounds(0.3, 10, 15).takes(one) for one in ids]
    assert taken == [RecordBounds(0.3, 10, 15).takes(one) for one in ids]
    assert 0.25 < sum(taken) / len(ids) < 0.35
    assert all(RecordBounds(1.0, 10, 15).takes(one) for one in ids)
    assert not any(RecordBounds(0.0, 10, 15).takes(one) or RecordBounds(1.0, 0, 15).takes(one) for one in ids)
