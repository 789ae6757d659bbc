"""Computing a logged slate again from what it was computed from, to see that it comes out the same.

The log has all of it: the impression itself says for whom, by which model and rules, with which seed and up to which
offsets the catalogue and the popularity had followed their topics; a sample of impressions has the whole history too.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from features.history import decode_history
from models.registry import Registry, UnknownModel
from models.scorer import Scorer
from services.recommend.engine import Engine
from services.recommend.overload import relieved
from services.recommend.pipeline import CONTEXT, Ask, Slate, Stopwatch, choose
from services.recommend.ranker import OVERLOAD, RANKER_FAILED, RANKER_SLOW, Rank, score_rows, unranked
from services.recommend.state import State
from services.recommend.surfaces import Surface
from streaming.bounded import records
from streaming.config import KafkaSettings
from streaming.errors import FlywheelError
from streaming.events import Impression, LoggedState, ReplayInputs, SlateItem
from streaming.ids import ItemId, RequestId
from streaming.topics import REPLAYABLE_HOURS, Topics

_HOUR_MS = 3_600_000


class CannotReplay(FlywheelError):
    """An input of a slate is not there any more, or was never logged."""


class Shown(msgspec.Struct, frozen=True):
    """An item of a slate, in its place."""

    item_id: str
    source: str
    propensity: float


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """A slate as it was logged and as it comes out again; `shown_at` in ms UTC."""

    request_id: str
    shown_at: int
    surface: str
    model_version: str | None
    identical: bool
    logged: list[Shown]
    again: list[Shown]


@dataclass(frozen=True)
class Replayer:
    """Replays slates of a namespace by the surfaces in force; `now` in ms UTC."""

    kafka: KafkaSettings
    topics: Topics
    registry: Registry
    surfaces: Mapping[str, Surface]
    now: Callable[[], int]

    def replay(self, request_id: RequestId) -> Replayed:
        """Compute a slate of the last day again; raises CannotReplay, with what is missing, and BrokerUnavailable."""
        impression = self._find(request_id)
        state, inputs = impression.user_state, impression.replay
        if state is None or inputs is None:
            raise CannotReplay(
                f"request {request_id!r} is not of the sample whose whole history was logged: "
                "raise FLYWHEEL_SERVING__REPLAY_SHARE to have more of them"
            )
        ask, known = self._ask(impression, inputs), _state(state, inputs)
        engine = Engine()
        with TemporaryDirectory() as folder:
            self._follow(engine, impression, inputs, Path(folder))
            watch, rank = Stopwatch(lambda: 0.0), _rank(impression.fallbacks)
            slate: Slate = asyncio.run(engine.compute(lambda live: choose(live, ask, known, watch, rank)))
        return Replayed(
            request_id=request_id,
            shown_at=impression.happened_at,
            surface=impression.surface,
            model_version=impression.model_version,
            identical=same(impression.slate, slate.items),
            logged=[_shown(item) for item in impression.slate],
            again=[_shown(item) for item in slate.items],
        )

    def _find(self, request_id: RequestId) -> Impression:
        since = self.now() - REPLAYABLE_HOURS * _HOUR_MS
        for batch in records(self.kafka, self.topics.impressions, since_ms=since):
            for record in batch:
                if isinstance(record.event, Impression) and record.event.request_id == request_id:
                    return record.event
        raise CannotReplay(
            f"no slate of the last {REPLAYABLE_HOURS} hours has the request id {request_id!r}: "
            "of older ones the log no longer has the items as they were"
        )

    def _ask(self, impression: Impression, inputs: ReplayInputs) -> Ask:
        surface = self.surfaces.get(impression.surface)
        if surface is None or surface.version != impression.surfaces_version:
            raise CannotReplay(
                f"request {impression.request_id!r} was answered by the rules {impression.surfaces_version}, which are "
                "not in force here: set FLYWHEEL_SERVING__SURFACES_FILE to the file of then"
            )
        ask = Ask(
            n=inputs.n,
            surface=surface,
            as_of=impression.happened_at,
            seed=impression.seed,
            categories=inputs.categories,
            exclude=[ItemId(item_id) for item_id in inputs.exclude],
            shown=[ItemId(item_id) for item_id in inputs.shown],
        )
        return relieved(ask, self.surfaces) if OVERLOAD in impression.fallbacks else ask

    def _follow(self, engine: Engine, impression: Impression, inputs: ReplayInputs, folder: Path) -> None:
        """Bring an engine to where it was when the slate was computed."""
        read = partial(records, self.kafka)
        engine.gather()
        for batch in read(self.topics.items, until=_offsets(impression.catalogue_offsets)):
            engine.apply_items(batch)
        engine.swap(None if impression.model_version is None else self._scorer(impression.model_version, folder))
        for batch in read(self.topics.interactions, until=_offsets(inputs.interaction_offsets)):
            engine.apply_interactions(batch)

    def _scorer(self, version: str, folder: Path) -> Scorer:
        try:
            self.registry.fetch(version, folder / "model")
        except UnknownModel as error:
            raise CannotReplay(f"the slate's model is not there any more: {error}") from error
        return Scorer.load(folder / "model")


def same(logged: Sequence[SlateItem], again: Sequence[SlateItem]) -> bool:
    """Whether two slates have the same items from the same sources, drawn with the same probabilities."""
    return len(logged) == len(again) and all(
        (one.item_id, one.source) == (other.item_id, other.source)
        and math.isclose(one.propensity, other.propensity, rel_tol=1e-9)
        for one, other in zip(logged, again, strict=True)
    )


def _rank(fallbacks: Sequence[str]) -> Rank:
    """Return what ranks as it was done for a slate with these fallbacks."""
    return next((unranked(name) for name in (RANKER_SLOW, RANKER_FAILED) if name in fallbacks), score_rows)


def _state(logged: LoggedState, inputs: ReplayInputs) -> State:
    history = decode_history(inputs.history)
    features = {name: value for name, value in logged.features.items() if not name.startswith(CONTEXT)}
    return State(history, frozenset(history.items), features)


def _offsets(by_partition: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in by_partition.items()}


def _shown(item: SlateItem) -> Shown:
    return Shown(item.item_id, item.source, item.propensity)
