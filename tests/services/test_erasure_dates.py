"""The dates that receipts and searches give: what Kafka promises of its files, and none where it promises none."""

import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from waiting import wait_until

from features.config import StoreSettings
from services.config import Settings
from services.erasure.kept import kept_for_ms, topic_entries, topics_of_users
from services.erasure.search import Searched, search
from streaming.config import KafkaSettings, client_options
from streaming.errors import BrokerUnavailable
from streaming.events import (
    AcknowledgedOffsets,
    ErasureEntered,
    Interaction,
    Kind,
    RecordsAcknowledged,
    UserUpserted,
)
from streaming.ids import UserId
from streaming.marks import Marker
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

HOUR_MS = 3_600_000
USER = UserId("somebody to forget")
LARGEST = str(2**63 - 1)


def configure(kafka: KafkaSettings, topic: str, **configs: str) -> None:
    """Set a topic's settings and wait until the broker has them; a name's underscores are dots."""
    named = {name.replace("_", "."): value for name, value in configs.items()}
    with closing(KafkaAdminClient(**client_options(kafka))) as admin:

        def told() -> dict[str, str]:
            found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
            return {name: config["value"] for name, config in found["topic"][topic].items() if name in named}

        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=named)])
        wait_until(lambda: told() == named)


@pytest.fixture
def topics(broker: KafkaSettings, namespace: Namespace) -> Topics:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    return topics


def test_a_topic_that_is_kept_for_ever_has_no_date(broker: KafkaSettings, topics: Topics) -> None:
    segment_and_checks = 24 * HOUR_MS + HOUR_MS
    retained = segment_and_checks + broker.retention_hours * HOUR_MS
    compacted = segment_and_checks + 24 * HOUR_MS + 24 * HOUR_MS  # lag, and Kafka's default of delete.retention.ms
    assert kept_for_ms(broker, topics) == dict.fromkeys(topics_of_users(topics), retained) | {topics.users: compacted}

    configure(broker, topics.interactions, retention_ms="-1")
    configure(broker, topics.impressions, retention_ms=LARGEST)
    configure(broker, topics.users, max_compaction_lag_ms=LARGEST)  # Kafka's own default
    cut = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp()) * 1000
    entries = {entry.store.removeprefix("topic "): entry for entry in topic_entries(broker, topics, cut)}
    for topic in (topics.interactions, topics.impressions, topics.users):
        assert kept_for_ms(broker, topics)[topic] is None
        assert entries[topic].gone_by is None
        assert entries[topic].note == "kept for ever: set retention.ms / max.compaction.lag.ms"
    assert datetime.fromisoformat(str(entries[topics.identities].gone_by)).timestamp() * 1000 == cut + retained


def test_the_latest_date_that_can_be_written_is_one_and_a_later_one_is_none(
    broker: KafkaSettings, topics: Topics
) -> None:
    now, year_ms = time.time_ns() // 1_000_000, 366 * 24 * HOUR_MS
    for years, dated in ((6_999, True), (7_001, False)):
        configure(broker, topics.identities, retention_ms=str(years * year_ms))
        entries = {entry.store: entry for entry in topic_entries(broker, topics, now)}
        assert (entries[f"topic {topics.identities}"].gone_by is not None) == dated


def test_what_no_reader_takes_and_kafka_never_drops_is_found(
    broker: KafkaSettings, valkey: StoreSettings, topics: Topics, tmp_path: Path
) -> None:
    settings = Settings(namespace=topics.namespace, home=tmp_path, kafka=broker, store=valkey)
    envelope = {"happened_at": 1, "received_at": 1, "producer": "test"}
    with closing(EventProducer(broker, topics)) as producer:
        producer.publish(
            [
                Interaction(**envelope, event_id="c", item_id="i", kind=Kind.CLICK, user_id=USER),
                UserUpserted(**envelope, event_id="u", user_id=USER, attributes={}),
            ]
        )
        producer.publish([ErasureEntered(**envelope, event_id="x", mark=Marker(broker, topics.namespace).mark(USER))])

    def found() -> dict[str, Searched]:
        return {each.store.removeprefix(f"topic {topics.namespace}."): each for each in search(settings, USER)}

    assert {store: each.verdict for store, each in found().items() if each.verdict != "gone"} == {
        "interactions": "gone by",
        "users": "gone by",
    }
    configure(broker, topics.interactions, retention_ms="-1")
    kept = found()["interactions"]
    assert (kept.verdict, kept.gone_by, len(kept.where)) == ("FOUND", None, 1)


def test_offsets_that_read_like_a_user_id_are_not_found_as_the_user(
    broker: KafkaSettings, valkey: StoreSettings, topics: Topics, tmp_path: Path
) -> None:
    settings = Settings(namespace=topics.namespace, home=tmp_path, kafka=broker, store=valkey)
    offsets = [AcknowledgedOffsets(topic=topics.interactions, partition=0, ranges=[(10483920, 10483924)])]
    envelope = {"event_id": "t", "happened_at": 1, "received_at": 1, "producer": "outbox"}
    with closing(EventProducer(broker, topics)) as producer:
        producer.publish([RecordsAcknowledged(**envelope, outbox="one", number=1, offsets=offsets)])
    assert {each.verdict for each in search(settings, UserId("10483920"))} == {"gone"}


def test_topics_that_are_not_there_and_a_broker_that_is_not_are_sentences(
    broker: KafkaSettings, namespace: Namespace, free_tcp_port: int
) -> None:
    with pytest.raises(BrokerUnavailable, match=r"nothing of topic .*run `flywheel topics`"):
        kept_for_ms(broker, Topics(namespace))
    nowhere = broker.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_tcp_port}"})
    with pytest.raises(BrokerUnavailable, match=f"no broker answers at 127.0.0.1:{free_tcp_port}"):
        kept_for_ms(nowhere, Topics(namespace))
