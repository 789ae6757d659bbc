"""What collectors that are gone have left behind comes to Kafka."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from topic_records import records

from services.config import Settings
from services.draining import NotDrained, NothingToDrain, drain
from services.settings_serving import ServingSettings
from services.spooling import event_spool
from streaming.codec import decode
from streaming.config import KafkaSettings
from streaming.events import Interaction, Kind
from streaming.namespace import Namespace
from streaming.records import records_of
from streaming.spool import Spool
from streaming.topic_creation import ensure_topics


@pytest.fixture
def settings(broker: KafkaSettings, namespace: Namespace, tmp_path: Path) -> Settings:
    serving = ServingSettings(spool_folder=tmp_path)
    settings = Settings(namespace=namespace, kafka=broker, serving=serving)
    ensure_topics(broker, settings.topics)
    return settings


@pytest.fixture
def left(settings: Settings) -> Iterator[list[str]]:
    """Event ids in three spools, of collectors that died."""
    spools, ids = [_claim(settings) for _ in range(3)], [f"e{number}" for number in range(9)]
    for number, event_id in enumerate(ids):
        click = Interaction(
            event_id=event_id, happened_at=1, received_at=1, producer="test", item_id="i", user_id="u", kind=Kind.CLICK
        )
        spools[number % 3].append(records_of(settings.topics, click)).result(10)
    for spool in spools:
        spool.close()
    return ids


def _claim(settings: Settings) -> Spool:
    place = event_spool(settings)
    assert place is not None
    return place.claim()


def test_every_spool_is_sent_and_doing_so_again_sends_nothing(settings: Settings, left: list[str]) -> None:
    assert drain(settings, threading.Event()) == 9
    found = records(settings.kafka, settings.topics.interactions)
    assert sorted(decode(record.value).event_id for record in found) == left
    assert drain(settings, threading.Event()) == 0


def test_a_spool_that_a_collector_still_has_is_left_to_it_and_named(settings: Settings, left: list[str]) -> None:
    running = _claim(settings)
    with pytest.raises(
        NotDrained, match=f"6 records were sent; a collector still has {running.path.name}: run it again"
    ):
        drain(settings, threading.Event())
    running.close()
    assert drain(settings, threading.Event()) == 3


def test_stopped_while_kafka_is_away_it_keeps_everything(settings: Settings, left: list[str]) -> None:
    stop = threading.Event()
    stop.set()
    nowhere = settings.model_copy(update={"kafka": KafkaSettings(bootstrap_servers="127.0.0.1:1")})
    with pytest.raises(NotDrained, match="stopped after 0 records"):
        drain(nowhere, stop)
    assert drain(settings, threading.Event()) == len(left)


def test_without_a_spool_there_is_nothing_to_drain(settings: Settings) -> None:
    none = settings.model_copy(update={"serving": ServingSettings(event_spool_mb=0)})
    with pytest.raises(NothingToDrain, match="EVENT_SPOOL_MB"):
        drain(none, threading.Event())
