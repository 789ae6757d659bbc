"""Changing the champion: the registry decides, the models topic tells every recommender."""

import uuid

import msgspec

from models.gate import Verdict
from models.registry import Champion, Registry
from streaming.config import KafkaSettings
from streaming.events import ModelPromoted
from streaming.producer import EventProducer
from streaming.topics import Topics

_PRODUCER = "promotion"


def promote(registry: Registry, version: str, verdict: Verdict, reason: str | None, now: int) -> Champion:
    """Make a model the champion, `now` in ms; without a pass of the gate a reason is needed, and kept.

    Raises GateRefused, UnknownModel, and ChampionChanged when somebody else was faster.
    """
    verdict.require(reason)
    return registry.promote(
        Champion(
            number=registry.next_number(),
            model_version=version,
            change="promote",
            changed_at=now,
            gate=msgspec.to_builtins(verdict),
            reason=reason,
        )
    )


def announce(kafka: KafkaSettings, topics: Topics, champion: Champion) -> None:
    """Tell every recommender; those that miss it look at the registry by themselves now and then."""
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
