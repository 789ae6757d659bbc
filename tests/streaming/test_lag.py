import threading

from streaming.config import KafkaSettings
from streaming.consumer import ConsumerSpec, Received, consume
from streaming.events import Interaction, Kind
from streaming.lag import lag
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics


def publish(broker: KafkaSettings, topics: Topics, count: int) -> None:
    producer = EventProducer(broker, topics)
    producer.publish(
        Interaction(
            event_id=f"e{n}",
            happened_at=n,
            received_at=n,
            producer="test",
            item_id="i",
            user_id=f"u{n}",
            kind=Kind.VIEW,
        )
        for n in range(count)
    )
    producer.close()


def test_the_lag_is_what_the_group_has_not_committed_yet(broker: KafkaSettings, namespace: Namespace) -> None:
    topics = Topics(namespace)
    ensure_topics(broker, topics)
    group = f"{namespace}.test"
    publish(broker, topics, 40)
    assert lag(broker, topics.interactions, group) == 40

    stop, seen = threading.Event(), []

    def handle(received: list[Received]) -> None:
        seen.extend(received)
        if len(seen) == 40:
            stop.set()

    consume(broker, ConsumerSpec(topics=[topics.interactions], group=group), handle, stop)
    assert lag(broker, topics.interactions, group) == 0
    publish(broker, topics, 3)
    assert lag(broker, topics.interactions, group) == 3
