"""Slates that can be explained: their records, written beside the answers and read again when somebody asks."""

from features.slate_records import SlateRecordReader
from services.recommend.engine import Engine
from services.recommend.explain import explain
from services.recommend.explain_bodies import ExplainAnswer
from services.recommend.recorder import RecordBounds, SlateRecorder
from streaming.ids import RequestId


class Explanations:
    """Keeps records by `recorder`, and explains slates from them on the live state."""

    def __init__(self, engine: Engine, recorder: SlateRecorder, reader: SlateRecordReader) -> None:
        self._engine = engine
        self._recorder = recorder
        self._reader = reader

    @property
    def bounds(self) -> RecordBounds:
        """Which records are kept, and for how long."""
        return self._recorder.bounds

    async def explain(self, request_id: RequestId) -> ExplainAnswer | None:
        """Return why a slate's items stood there, None without a record of it; raises redis.RedisError."""
        record = await self._reader.read(request_id)
        return None if record is None else await self._engine.compute(lambda live: explain(live, record))

    def start(self) -> None:
        """Begin to write."""
        self._recorder.start()

    def stop(self, timeout_s: float) -> None:
        """Write what is still to be written within the time."""
        self._recorder.stop(timeout_s)

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.close()
