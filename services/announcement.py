"""Telling every recommender of a changed champion, over the models topic."""

import uuid

from models.registry import Champion
from streaming.config import KafkaSettings
from streaming.events import ModelPromoted
from streaming.producer import EventProducer
from streaming.topics import Topics

_PRODUCER = "promotion"


def announce(kafka: KafkaSettings, topics: Topics, champion: Champion) -> None:
    """Tell every recommender; those that miss it look at the registry by themselves now and then.

    Raises BrokerUnavailable and NotDurable.
    """
    event = ModelPromoted(
        event_id=str(uuid.uuid4()),
        happened_at=champion.changed_at,
        received_at=champion.changed_at,
        producer=_PRODUCER,
        model_version=champion.model_version,
        champion_number=champion.number,
    )
    producer = EventProducer(kafka, topics)
    try:
        producer.publish([event])
    finally:
        producer.close()
