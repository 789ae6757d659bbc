"""What keeps the recommender's state up to date while it answers, started and stopped as one."""

import asyncio
import gc
from collections.abc import Callable

from features.online import OnlineReader
from services.metrics import ImpressionMetrics, RecommendMetrics
from services.recommend.champion import ChampionWatch
from services.recommend.engine import Engine
from services.recommend.impressions import ImpressionLog
from services.recommend.tails import Tails

_STOP_TIMEOUT_S = 5.0
_LOOK_S = 0.05


class Upkeep:
    """The threads beside the event loop: the log's tails, the champion's watch and the impressions' sender."""

    def __init__(
        self, engine: Engine, tails: Tails, champion: ChampionWatch, impressions: ImpressionLog, reader: OnlineReader
    ) -> None:
        self._engine = engine
        self._tails = tails
        self._champion = champion
        self._impressions = impressions
        self._reader = reader
        self._settling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the threads; raises SpoolUnusable."""
        self._tails.start()
        self._champion.start()
        self._impressions.start()
        self._settling = asyncio.create_task(self._settle_heap())

    async def stop(self) -> None:
        """Stop the threads, and send or spool the impressions that are left."""
        if self._settling is not None:
            self._settling.cancel()
        await asyncio.to_thread(self._stop_threads)
        await self._reader.close()

    def checks(self) -> dict[str, bool]:
        """Return whether the catalogue and the popularity are complete, and the champion, if any, was looked for.

        A store that is down is no reason not to answer: sessions and popularity go on.
        """
        return {
            "catalogue": self._tails.catalogue_caught_up.is_set(),
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

    def _stop_threads(self) -> None:
        self._champion.stop()
        self._tails.stop()
        self._engine.stop()
        self._impressions.stop(_STOP_TIMEOUT_S)

    async def _settle_heap(self) -> None:
        """Once the state is complete, take it out of the garbage collector's rounds, which would walk all of it."""
        while not all(self.checks().values()):
            await asyncio.sleep(_LOOK_S)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 1_000)
