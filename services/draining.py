"""Sending what is left in the spools of collectors that will not start again."""

import threading

from services.config import Settings
from services.spooling import event_spool
from streaming.errors import FlywheelError
from streaming.outbox import Delivery, Outbox

_LOOK_S = 0.1
_STOP_TIMEOUT_S = 5.0


class NothingToDrain(FlywheelError):
    """The settings want no spool."""

    exit_code = 2


class NotDrained(FlywheelError):
    """It was stopped before everything was in Kafka; what is left stays in the spool."""


def drain(settings: Settings, stop: threading.Event) -> int:
    """Send every event of the spool folder to Kafka, waiting for it as long as need be; returns how many records.

    Spools that a running collector owns are left to it. Raises NothingToDrain without a spool, SpoolUnusable, and
    NotDrained when there are such, or `stop` is set before the end.
    """
    place = event_spool(settings)
    if place is None:
        raise NothingToDrain("serving.event_spool_mb is 0: set FLYWHEEL_SERVING__EVENT_SPOOL_MB to what it was")
    sent: list[int] = []
    delivery = Delivery(settings.serving.acknowledge_deadline_ms, spool=place)
    outbox = Outbox(settings.kafka, settings.topics, delivery, sent.append)
    outbox.start()
    try:
        while not outbox.direct:  # it is, once all that lay in the spools is in Kafka
            if stop.wait(_LOOK_S):
                raise NotDrained(f"stopped after {sum(sent)} records; what is left stays in the spool: run it again")
    finally:
        outbox.stop(_STOP_TIMEOUT_S)
    if left := place.unfinished():
        names = ", ".join(path.name for path in left)
        raise NotDrained(
            f"{sum(sent)} records were sent; a collector still has {names}: run it again when that has ended"
        )
    return sum(sent)
