"""The audit that a running lander makes of itself, again and again."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kafka.errors import KafkaError
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from features.accounting import audit
from features.landing import Lander
from services.landing_metrics import LandingMetrics
from streaming.errors import FlywheelError

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 5.0

SETTLED_S = 600
"""How long ago a record must have been appended to count as one that should have landed."""


def settled_until(now_ms: int) -> int:
    """Return up to when, ms UTC, what was appended should have landed."""
    return now_ms - SETTLED_S * 1000


@dataclass(frozen=True)
class Auditor:
    """Audits a lander's work every `every_s` seconds into `metrics`."""

    lander: Lander
    metrics: LandingMetrics
    every_s: float

    def run(self, stop: threading.Event) -> None:
        """Audit until `stop` is set; an audit that cannot end is counted, and tried again in its turn."""
        while not stop.wait(self.every_s):
            self.once()

    def once(self) -> None:
        """Audit what was appended up to ten minutes ago."""
        lander = self.lander
        try:
            found = audit(lander.spark, lander.kafka, lander.topics, until=settled_until(lander.clock()))
        except (FlywheelError, KafkaError, PySparkException, Py4JError) as error:
            self.metrics.failed()
            _log.warning("the audit could not end: %s", error)
            return
        self.metrics.audited(found, lander.clock() / 1000)
        for one in found.differences:
            _log.error("the audit found a difference at %s-%d: %s", one.topic, one.partition, one)


@contextmanager
def auditing(auditor: Auditor) -> Iterator[None]:
    """Audit beside the block; not at all with `every_s` 0."""
    if auditor.every_s == 0:
        yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=auditor.run, args=(stop,), name="audit", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_STOP_TIMEOUT_S)  # an audit under way changes nothing, and ends with the process
