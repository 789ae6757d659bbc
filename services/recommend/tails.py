"""Following the log: threads that read topics from a snapshot or their beginning on, as they grow, into the engine."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kafka.errors import KafkaError

from services.metrics import RecommendMetrics
from services.recommend.engine import Engine
from services.recommend.followed import Followed
from services.recommend.snapshots import Snapshots
from streaming.config import KafkaSettings
from streaming.consumer import Received, tail
from streaming.errors import BrokerUnavailable
from streaming.ledger import Ledger
from streaming.topic_state import topic_states
from streaming.topics import Topics

_log = logging.getLogger(__name__)

_RETRY_S = 1.0


@dataclass(frozen=True)
class Told:
    """Who hears of what is followed beside the items and interactions: of a champion, and of erasures."""

    champion: Callable[[], None]
    erasures: Ledger


class Tails:
    """Keeps the catalogue, then the popularity, and the erasures up to date, and tells when a champion is announced."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topics: Topics,
        engine: Engine,
        metrics: RecommendMetrics,
        told: Told,
        snapshots: Snapshots,
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._engine = engine
        self._metrics = metrics
        self._told = told
        self._snapshots = snapshots
        self._restored: Followed | None = None
        self._topic_ids: Mapping[str, str] = {}
        self._stop = threading.Event()
        self.catalogue_caught_up = threading.Event()
        self.popularity_caught_up = threading.Event()
        self._models_caught_up = threading.Event()
        self._erasures_caught_up = threading.Event()
        self._threads = [
            threading.Thread(target=target, name=name, daemon=True)
            for name, target in (
                ("items", self._follow_items),
                ("interactions", self._follow_interactions),
                ("models", self._follow_models),
                ("erasures", self._follow_erasures),
            )
        ]

    @property
    def alive(self) -> bool:
        """Whether every topic is still being followed."""
        return all(thread.is_alive() for thread in self._threads)

    def start(self) -> None:
        """Begin to read."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop reading; returns when every thread has ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def keep_snapshot(self) -> None:
        """Have a snapshot kept of what was followed so far, where it is known which topics that was."""
        if self._topic_ids:
            self._engine.keep(lambda followed: self._snapshots.write(followed, self._topic_ids))

    def _follow_items(self) -> None:
        self._follow(self._topics.items, self._engine.apply_items, self.catalogue_caught_up, self._begin_items)

    def _follow_interactions(self) -> None:
        # An interaction counts for the row of its item, so the catalogue comes first, and so do the erasures.
        for needed in (self._engine.laid_out, self._erasures_caught_up):
            while not needed.wait(_RETRY_S):
                if self._stop.is_set():
                    return
        self._follow(
            self._topics.interactions,
            self._apply_interactions,
            self.popularity_caught_up,
            self._begin_interactions,
        )

    def _follow_erasures(self) -> None:
        self._follow(self._topics.erasures, self._told.erasures.apply, self._erasures_caught_up)

    def _apply_interactions(self, records: list[Received]) -> None:
        self._engine.apply_interactions([record for record in records if not self._told.erasures.drops(record)])

    def _begin_items(self) -> Mapping[str, int]:
        if self.catalogue_caught_up.is_set():
            return {}
        try:
            states = topic_states(self._kafka, self._snapshots.topics)
        except KafkaError as error:  # what the topics are may be kept from us
            _log.warning("the catalogue is read from the log, without snapshots: %s", error)
            return {}
        self._topic_ids = {name: state.topic_id for name, state in states.items() if state.topic_id is not None}
        self._restored = self._snapshots.newest(states)
        if self._restored is None:
            return {}
        self._engine.restore_items(self._restored)
        return self._restored.offsets.catalogue

    def _begin_interactions(self) -> Mapping[str, int]:
        restored, self._restored = self._restored, None
        if restored is None:
            self._engine.forget_interactions()
            return {}
        self._engine.restore_interactions(restored)
        return restored.offsets.interactions

    def _follow_models(self) -> None:
        self._follow(self._topics.models, lambda _: self._told.champion(), self._models_caught_up)

    def _follow(
        self,
        topic: str,
        apply: Callable[[list[Received]], object],
        caught_up: threading.Event,
        begin: Callable[[], Mapping[str, int]] = dict,
    ) -> None:
        since = 0.0

        def handle(records: list[Received]) -> None:
            apply(records)
            appended_at = min(record.appended_at for record in records) / 1000
            late = None if appended_at < since else max(0.0, time.time() - appended_at)
            self._metrics.applied(topic, len(records), late)

        while not self._stop.is_set():
            try:
                since = time.time()
                start = {int(partition): offset for partition, offset in begin().items()}
                tail(self._kafka, [topic], handle, self._stop, caught_up, start)
            except (BrokerUnavailable, KafkaError) as error:
                _log.warning("reading %s again from its beginning in %s s: %s", topic, _RETRY_S, error)
                self._stop.wait(_RETRY_S)
