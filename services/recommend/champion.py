"""Following the champion: a new one is pulled, verified and warmed before it takes the place of the old."""

import logging
import threading
import time

import numpy as np

from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.model_store import ModelCache
from models.registry import Registry
from models.scorer import Query, Scorer
from models.vocabulary import ItemRow
from services.recommend.engine import Engine
from streaming.errors import FlywheelError
from streaming.events import Kind
from streaming.ids import EventId

_log = logging.getLogger(__name__)

_WARM_ROWS = 200
_TRY_AGAIN_S = 30.0
_LOOK_S = 0.5


class ModelUnfit(FlywheelError):
    """A loaded model gives scores that are no numbers."""


class ChampionWatch:
    """Looks the champion up when it is announced, and every so often; a broken one leaves the old model in place."""

    def __init__(self, registry: Registry, cache: ModelCache, engine: Engine, poll_s: float) -> None:
        self._registry = registry
        self._cache = cache
        self._engine = engine
        self._poll_s = poll_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._failed: tuple[str, float] | None = None
        self._thread: threading.Thread | None = None
        self.looked = threading.Event()

    def start(self, catalogue: threading.Event) -> None:
        """Begin to look; `looked` is set after the first look, when its model answers.

        The first model is loaded beside the reading of the catalogue, and laid out once `catalogue` is set.
        """
        self._thread = threading.Thread(target=self._run, args=(catalogue,), name="champion", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; returns when a model that is being loaded is in place."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def announced(self) -> None:
        """Look now."""
        self._wake.set()

    def _run(self, catalogue: threading.Event) -> None:
        first = self._new_champion()
        while not catalogue.wait(_LOOK_S):
            if self._stop.is_set():
                return
        self._put(first)
        self.looked.set()
        while not self._stop.is_set():
            self._wake.wait(self._poll_s)
            self._wake.clear()
            scorer = None if self._stop.is_set() else self._new_champion()
            if scorer is not None:
                self._put(scorer)

    def _new_champion(self) -> Scorer | None:
        """Return the champion, warmed, unless it answers already or cannot be had."""
        try:
            champion = self._registry.champion()
        except Exception as error:  # noqa: BLE001 - a store's client raises errors of its own; the next look may do
            _log.error("the model registry cannot be read: %s", error, exc_info=True)
            return None
        if champion is None or champion.model_version == self._engine.model_version:
            return None
        version = champion.model_version
        if self._failed is not None and self._failed[0] == version and time.monotonic() < self._failed[1]:
            return None
        try:
            scorer = Scorer.of(self._cache.open(version))
            warm(scorer)
        except Exception as error:  # noqa: BLE001 - a damaged file makes its reader raise anything; the old model goes on
            self._failed = (version, time.monotonic() + _TRY_AGAIN_S)
            self._cache.drop(version)
            _log.error(
                "model %r is not served, %r goes on: %s", version, self._engine.model_version, error, exc_info=True
            )
            return None
        return scorer

    def _put(self, scorer: Scorer | None) -> None:
        self._engine.swap(scorer)
        if scorer is not None:
            self._cache.keep_only(scorer.version)
            _log.warning("model %r answers from now on", scorer.version)


def warm(scorer: Scorer) -> None:
    """Run every part of a model once, so that no request pays for it; raises ModelUnfit when it does not work."""
    item_id = scorer.item_id(ItemRow(0))
    event = HistoryEvent(scorer.trained_until, EventId("warm"), item_id, Kind.VIEW)
    query = Query(History((event,)), {}, scorer.trained_until + 1)
    rows = np.arange(min(_WARM_ROWS, scorer.size), dtype=np.int64)
    scores = (
        scorer.retrieve(query, _WARM_ROWS).scores,
        scorer.co_visited(query, _WARM_ROWS).scores,
        scorer.similar(ItemRow(0), _WARM_ROWS).scores,
        scorer.rank(query, rows, PopularityWindow()),
    )
    if not all(np.isfinite(part).all() for part in scores):
        raise ModelUnfit(f"model {scorer.version!r} gives scores that are no numbers")
