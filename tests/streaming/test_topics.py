import pytest
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from streaming.config import BrokerAddressMissing, KafkaSettings, client_options
from streaming.namespace import Namespace, parse_namespace
from streaming.topic_creation import TopicMismatch, ensure_topics
from streaming.topics import Topics, dead_letters, parked


def test_every_topic_exists_after_the_first_run_and_nothing_happens_in_the_second(
    broker: KafkaSettings, namespace: Namespace
) -> None:
    topics = Topics(namespace)
    created = ensure_topics(broker, topics)
    side_topics = {side(topic) for topic in topics.landed for side in (dead_letters, parked)}
    assert set(created) == {*topics.landed, topics.models, topics.erasures, topics.acknowledgements} | side_topics
    assert ensure_topics(broker, topics) == []


def test_a_topic_is_not_resized(broker: KafkaSettings, namespace: Namespace) -> None:
    ensure_topics(broker, Topics(namespace))
    more = broker.model_copy(update={"partitions": broker.partitions + 1})
    with pytest.raises(TopicMismatch, match=rf"{namespace}\.\w+' has {broker.partitions} partitions"):
        ensure_topics(more, Topics(namespace))


def test_retention_follows_the_logs_own_time(broker: KafkaSettings, namespace: Namespace) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    admin = KafkaAdminClient(**client_options(broker))
    try:
        described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topics.interactions)])
    finally:
        admin.close()
    assert "LogAppendTime" in str(described)


def test_every_version_of_an_item_of_the_last_day_stays_in_the_log(broker: KafkaSettings, namespace: Namespace) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    day_ms = str(24 * 3_600_000)
    assert config(broker, topics.items)["min.compaction.lag.ms"] == day_ms
    assert config(broker, topics.users)["max.compaction.lag.ms"] == day_ms


def config(kafka: KafkaSettings, topic: str) -> dict[str, str]:
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        admin.close()
    return {name: found["value"] for name, found in described["topic"][topic].items()}


@pytest.mark.parametrize("text", ["", "a", "Shop", "1shop", "shop-1", "shop.eu", "a" * 21, "läden", "shop\n"])
def test_a_namespace_that_could_collide_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="lower-case letter"):
        parse_namespace(text)


def test_a_client_without_an_address_says_how_to_get_one() -> None:
    with pytest.raises(BrokerAddressMissing, match="flywheel up"):
        client_options(KafkaSettings())
