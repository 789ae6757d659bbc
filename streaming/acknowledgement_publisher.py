"""Publishes what Kafka has acknowledged, over a connection of its own: what fails here keeps no event from the log."""

import logging
import math
import threading
import time

from streaming.acknowledgements import Acknowledgements
from streaming.config import KafkaSettings
from streaming.errors import BrokerUnavailable
from streaming.producer import EventProducer, NotDurable
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
_DELIVERY_MS = 10_000


class AcknowledgementPublisher:
    """A thread that publishes what is due, and again what could not be published. It raises nothing: it logs."""

    def __init__(self, kafka: KafkaSettings, topics: Topics, acknowledgements: Acknowledgements) -> None:
        """Nothing is connected before there is something to tell."""
        self._kafka = kafka
        self._topics = topics
        self._acknowledgements = acknowledgements
        self._producer: EventProducer | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="acknowledgements", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Publish what was acknowledged up to now, and wait for it as long as that, seconds."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            self._publish_all(time.monotonic())
        self._publish_all(math.inf)
        self._disconnect()

    def _publish_all(self, at_s: float) -> None:
        while (event := self._acknowledgements.due(at_s)) is not None:
            try:
                self._connected().publish([event])
            except (BrokerUnavailable, NotDurable) as error:
                _log.warning("what Kafka acknowledged was not told (no such topic? `flywheel topics`): %s", error)
                self._disconnect()
                return
            self._acknowledgements.told(event)

    def _connected(self) -> EventProducer:
        if self._producer is None:
            self._producer = EventProducer(self._kafka, self._topics, delivery_timeout_ms=_DELIVERY_MS)
        return self._producer

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.abort()
