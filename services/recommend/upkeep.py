"""What keeps the recommender's state up to date while it answers, started and stopped as one."""

import asyncio
import logging
import threading
from collections.abc import Callable

from features.online import OnlineReader
from services import heap
from services.metrics import ImpressionMetrics, RecommendMetrics
from services.recommend.champion import ChampionWatch
from services.recommend.engine import Engine
from services.recommend.explanations import Explanations
from services.recommend.impressions import ImpressionLog
from services.recommend.tails import Tails

_log = logging.getLogger(__name__)

_STOP_TIMEOUT_S = 5.0
_LOOK_S = 0.05


class Upkeep:
    """The threads beside the event loop: those that follow log and champion, keep snapshots, send what was shown."""

    def __init__(
        self,
        engine: Engine,
        tails: Tails,
        champion: ChampionWatch,
        senders: tuple[ImpressionLog, Explanations],
        reader: OnlineReader,
        snapshot_s: float,
    ) -> None:
        self._engine = engine
        self._tails = tails
        self._champion = champion
        self._impressions, self._explanations = senders
        self._reader = reader
        self._snapshot_s = snapshot_s
        self._stop = threading.Event()
        self._keeping = threading.Thread(target=self._keep_snapshots, name="snapshots", daemon=True)
        self._freezing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the threads; raises SpoolUnusable."""
        self._engine.gather()
        self._tails.start()
        self._champion.start(self._tails.catalogue_caught_up)
        self._impressions.start()
        self._keeping.start()
        self._explanations.start()
        self._freezing = asyncio.create_task(self._freeze_heap())

    async def stop(self) -> None:
        """Stop the threads, and send or spool the impressions that are left."""
        if self._freezing is not None:
            self._freezing.cancel()
        await asyncio.to_thread(self._stop_threads)
        await self._explanations.close()
        await self._reader.close()

    def checks(self) -> dict[str, bool]:
        """Return whether the catalogue and the popularity are complete, and the champion, if any, was looked for.

        A store that is down is no reason not to answer: sessions and popularity go on.
        """
        return {
            "catalogue": self._engine.laid_out.is_set(),
            "popularity": self._tails.popularity_caught_up.is_set(),
            "following": self._tails.alive,
            "model": self._champion.looked.is_set(),
        }

    def refresh(self, metrics: RecommendMetrics, impressions: ImpressionMetrics, now_ms: Callable[[], int]) -> None:
        """Set the gauges."""
        until = self._engine.trained_until
        metrics.model(self._engine.model_version, None if until is None else (now_ms() - until) / 1000)
        impressions.waiting(self._impressions.waiting)
        impressions.spool.filled(self._impressions.fill, now_ms())

    def _keep_snapshots(self) -> None:
        """Keep a snapshot once the state is complete, then every so often."""
        while not all(self.checks().values()):
            if self._stop.wait(_LOOK_S):
                return
        while True:
            try:
                self._tails.keep_snapshot()
            except OSError as error:
                _log.warning("no snapshot of the catalogue was kept: %s", error)
            heap.give_back()
            if self._stop.wait(self._snapshot_s):
                return

    def _stop_threads(self) -> None:
        self._stop.set()
        self._champion.stop()
        self._tails.stop()
        self._keeping.join()
        self._impressions.stop(_STOP_TIMEOUT_S)
        self._explanations.stop(_STOP_TIMEOUT_S)

    async def _freeze_heap(self) -> None:
        """Freeze the heap once the state is complete."""
        while not all(self.checks().values()):
            await asyncio.sleep(_LOOK_S)
        heap.freeze()
