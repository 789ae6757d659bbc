"""Evaluation: the served pipeline asked as of past times, over an overlay in memory that nobody else sees.

Nothing is explored, logged or written. The overlay is the live state at the start, forked: its popularity and the
users' histories then grow only by what the evaluation feeds.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from features.history import HistoryEvent
from services.recommend.engine import Engine
from services.recommend.live import Live
from services.recommend.pipeline import Ask, Slate, Stopwatch, choose
from services.recommend.state import State, UserStates
from services.recommend.surfaces import Surface
from streaming.errors import FlywheelError
from streaming.ids import EventId, UserId

_STEPS_AT_ONCE = 4  # so that other requests get their turn between
_MOST = 8


class TooMany(FlywheelError):
    """As many evaluations as are allowed are under way."""


class StoreAway(FlywheelError):
    """The online store did not give a user's state, without which an evaluation would measure something else."""


@dataclass(frozen=True)
class Step:
    """Ask for `n` items for a user as of a time (ms), then feed `then`."""

    user_id: UserId
    as_of: int
    n: int
    then: Sequence[HistoryEvent]


class Evaluation:
    """One evaluation's overlay; slates are those of `surface` as it was when the evaluation began."""

    def __init__(self, live: Live, surface: Surface, history_length: int, clock: Callable[[], float]) -> None:
        self._live = live.forked()
        self._surface = surface
        self._history_length = history_length
        self._clock = clock
        self.states: dict[UserId, State] = {}
        self.turn = asyncio.Lock()
        self.used_at = clock()
        self._fed = 0

    def next_event_id(self) -> EventId:
        """Return the id of the next event that is fed: by number, since ids order a history within one millisecond."""
        self._fed += 1
        return EventId(f"fed-{self._fed:09d}")

    @property
    def model_version(self) -> str | None:
        """The model that was loaded when the evaluation began, and that it keeps."""
        return self._live.model_version

    def answer(self, steps: Sequence[Step], _: Live) -> list[Slate]:
        """Answer the steps in their order, from the overlay whatever the live state is by now."""
        return [self._answer(step) for step in steps]

    def _answer(self, step: Step) -> Slate:
        state = self.states[step.user_id]
        ask = Ask(n=step.n, surface=self._surface, as_of=step.as_of, seed=None)
        slate = choose(self._live, ask, state.before(step.as_of), Stopwatch(self._clock))
        if step.then:
            self.states[step.user_id] = state.with_events(step.then, self._history_length)
            self._observe(step.then)
        return slate

    def _observe(self, events: Sequence[HistoryEvent]) -> None:
        counted = [event for event in events if not event.kind.is_negative]
        known = [
            (row, event.happened_at) for event in counted if (row := self._live.rows.row(event.item_id)) is not None
        ]
        if known:
            table = np.array(known, dtype=np.int64)
            self._live.popularity.observe(table[:, 0], table[:, 1])


class Evaluations:
    """The evaluations under way. One that is not used for a while is dropped."""

    def __init__(
        self,
        engine: Engine,
        states: UserStates,
        surface: Callable[[], Surface],
        ttl_s: float,
        clock: Callable[[], float],
    ) -> None:
        self._engine = engine
        self._surface = surface
        self._states = states
        self._ttl_s = ttl_s
        self._clock = clock
        self._open: dict[str, Evaluation] = {}

    async def start(self, evaluation_id: str) -> None:
        """Fork the live state; raises TooMany."""
        now = self._clock()
        self._open = {name: one for name, one in self._open.items() if now - one.used_at < self._ttl_s}
        if len(self._open) >= _MOST:
            raise TooMany(f"{_MOST} evaluations are under way: end one, or wait until one is dropped")
        surface = self._surface()
        self._open[evaluation_id] = await self._engine.compute(
            lambda live: Evaluation(live, surface, self._states.history_length, self._clock)
        )

    def get(self, evaluation_id: str) -> Evaluation | None:
        """Return an evaluation that is under way."""
        return self._open.get(evaluation_id)

    def end(self, evaluation_id: str) -> bool:
        """Drop an evaluation; returns whether there was one."""
        return self._open.pop(evaluation_id, None) is not None

    async def answer(self, evaluation: Evaluation, steps: Sequence[Step]) -> list[Slate]:
        """Answer the steps in their order. A user's stored state is read once; raises StoreAway."""
        slates: list[Slate] = []
        async with evaluation.turn:
            await self._read_states(evaluation, steps)
            for start in range(0, len(steps), _STEPS_AT_ONCE):
                evaluation.used_at = self._clock()
                slates += await self._engine.compute(partial(evaluation.answer, steps[start : start + _STEPS_AT_ONCE]))
        return slates

    async def _read_states(self, evaluation: Evaluation, steps: Sequence[Step]) -> None:
        for step in steps:
            if step.user_id in evaluation.states:
                continue
            state = await self._states.read(step.user_id, step.as_of)
            if state.fallbacks:
                raise StoreAway(f"the online store gave no state for user {step.user_id!r}: try again when it answers")
            evaluation.states[step.user_id] = state
