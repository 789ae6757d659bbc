"""One request as one chain: user state, filters, candidates, ranking, slate, impression.

`Pipeline.recommend` is the whole chain. `choose`, its middle, touches no network; evaluation calls the same function.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Literal

import numpy as np

from features.history import HistoryEvent, encode_history
from models.scorer import Query
from services.metrics import RecommendMetrics
from services.recommend.arrangement import Arranged, Frame, Rows, Scores, arrange, pinned
from services.recommend.candidates import MOST_FILLED, Candidates, Need, gather
from services.recommend.contest import Policy
from services.recommend.engine import Engine
from services.recommend.filters import EVER, may_show, met, without_tired
from services.recommend.followed import Offsets
from services.recommend.impressions import Impressions
from services.recommend.live import Live
from services.recommend.ranker import OVERLOAD, Rank, Ranker, Unranked, score_rows
from services.recommend.state import NO_HISTORY, State, UserStates
from services.recommend.surfaces import Surface
from services.recommend.why import reasons
from services.tracing import record_stages
from streaming.events import Impression, LoggedState, ReplayInputs, SlateItem
from streaming.ids import ItemId, RequestId, SessionId, UserId

NO_MODEL = "no_model"
NO_TASK = "no_task"  # a weight names a conversion that the model does not predict
CAPS_EXCEEDED = "caps_exceeded"  # nothing within the caps was left
CHAMPION = "champion"
CONTEXT = "context."
"""What the names of a request's context begin with among the logged features."""
PRODUCER = "recommender"

_LOGGED_HISTORY = 200


@dataclass(frozen=True)
class Ask:
    """What is asked for: `as_of` in ms decides what is recent and available; without `seed` nothing is explored.

    `shown` are the items of the pages before, which come first in the list that this slate goes on with. `why` asks
    for what speaks for each item. `overload` says how the slate is made cheaper: other rules are those of `surface`.
    """

    n: int
    surface: Surface
    as_of: int
    seed: int | None
    categories: Sequence[str] = ()
    exclude: Sequence[ItemId] = ()
    context: Mapping[str, str | float | bool] = field(default_factory=dict)
    shown: Sequence[ItemId] = ()
    why: bool = False
    overload: Literal["unranked", "other_rules"] | None = None


@dataclass(frozen=True)
class Asker:
    """For whom: a user, a guest's session, or both, and what the request says happened in the session."""

    user_id: UserId | None
    session_id: SessionId | None
    events: Sequence[HistoryEvent] = ()


@dataclass(frozen=True)
class Slate:
    """The items shown, top first, the names of what had to be replaced by a fallback, and the policy executed.

    `reasons` say why each of the items is there, if that was asked.
    """

    items: Sequence[SlateItem]
    fallbacks: tuple[str, ...]
    model_version: str | None
    candidates: Mapping[str, int]
    policy: Policy
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Computed:
    """A slate, the state it was computed for, and up to where the log had been followed then."""

    slate: Slate
    state: State
    offsets: Offsets


class Stopwatch:
    """Times stages one after another; `clock` in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self.seconds: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """End a stage, which began where the one before ended; one that comes twice counts twice."""
        now = self._clock()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


class Pipeline:
    """Answers requests from the user's stored state and the live state, and logs what was shown."""

    def __init__(
        self,
        engine: Engine,
        states: UserStates,
        impressions: Impressions,
        metrics: RecommendMetrics,
        clock: Callable[[], float],
        ranker: Ranker,
    ) -> None:
        self._engine = engine
        self._states = states
        self._impressions = impressions
        self._metrics = metrics
        self._clock = clock
        self._ranker = ranker

    async def recommend(self, request_id: RequestId, asker: Asker, ask: Ask) -> Slate:
        """Return the slate of a request, whose id clicks on it will carry."""
        rank, watch = self.rank_from_now(), Stopwatch(self._clock)
        state = await self.state_of(asker, ask.as_of)
        watch.lap("user_state")

        def compute(live: Live) -> Computed:
            watch.lap("turn")
            return Computed(choose(live, ask, state, watch, rank), state, self._engine.offsets)

        computed = await self._engine.compute(compute)
        slate = computed.slate
        self.log(request_id, asker, ask, computed)
        watch.lap("impression")
        self._record(ask, slate, watch)
        return slate

    def rank_from_now(self) -> Rank:
        """Return what ranks within the time of a request that starts now."""
        return self._ranker.from_now()

    async def state_of(self, asker: Asker, as_of: int) -> State:
        """Return what is known of a user or guest at `as_of`, ms; a guest's session alone needs no store."""
        stored = await self._states.read(asker.user_id, as_of)
        return stored.with_session(asker.events, self._states.history_length)

    def log(self, request_id: RequestId, asker: Asker, ask: Ask, computed: Computed) -> None:
        """Have it logged that a slate was shown; clicks on it carry `request_id`."""
        self._impressions.offer(self._impression(request_id, asker, ask, computed), computed.state.history)

    def _impression(self, request_id: RequestId, asker: Asker, ask: Ask, computed: Computed) -> Impression:
        slate, state = computed.slate, computed.state
        # Without a seed it is a caller's list in order, which names no candidates.
        replayable = ask.seed is not None and self._impressions.is_replayable(request_id)
        return Impression(
            event_id=request_id,
            happened_at=ask.as_of,
            received_at=ask.as_of,
            producer=PRODUCER,
            surface=ask.surface.name,
            surfaces_version=ask.surface.version,
            policy=slate.policy,
            variant=CHAMPION,
            slate=list(slate.items),
            seed=ask.seed or 0,
            user_id=asker.user_id,
            session_id=asker.session_id,
            model_version=slate.model_version,
            fallbacks=list(slate.fallbacks),
            user_state=LoggedState(
                history=list(state.history.items[-_LOGGED_HISTORY:]),
                features={**state.features, **_logged_context(ask)},
            ),
            catalogue_offsets=computed.offsets.catalogue,
            replay=_replay_inputs(ask, computed) if replayable else None,
        )

    def _record(self, ask: Ask, slate: Slate, watch: Stopwatch) -> None:
        record_stages(watch.seconds)
        for stage, seconds in watch.seconds.items():
            self._metrics.stage(stage, seconds)
        for source, count in slate.candidates.items():
            self._metrics.candidates(source, count)
        for name in slate.fallbacks:
            self._metrics.fallback(name)
        if len(slate.items) < ask.n and not ask.shown:  # a list's last page may be short
            self._metrics.short(ask.surface.name)
            if not slate.items:
                self._metrics.empty(ask.surface.name)


def choose(live: Live, ask: Ask, state: State, watch: Stopwatch, rank: Rank = score_rows) -> Slate:
    """Return the slate for a user in `state`. It is full unless fewer items than asked for may be shown.

    What `rank` will not rank stays in the order of retrieval.
    """
    query = Query(history=state.history, user_features=state.features, as_of=ask.as_of)
    filters = without_tired(live, state, ask.surface.filters, ask.as_of)
    barred = chain(met(state, filters, ask.as_of), ask.exclude)
    allowed = may_show(live, ask.as_of, barred, ask.categories, filters)
    watch.lap("filters")
    need = Need(query, allowed, ask.categories)
    first = len(ask.shown)
    filling = _Filling(live, ask, need, rank, watch, live.rows_of(ask.shown))
    filled = filling.fill(first + ask.n)
    if filled.arranged.exceeded:  # others than the sources name may be within the caps
        filled = filling.fill(MOST_FILLED)
    missing = [CAPS_EXCEEDED] if filled.arranged.exceeded else []
    return Slate(
        items=filled.arranged.items,
        fallbacks=(*fallbacks_of(live, ask.surface, state), *filled.missing, *missing),
        model_version=live.model_version,
        candidates=dict(filled.candidates.counts()),
        policy=filled.arranged.policy,
        reasons=reasons(live, need, filled.arranged.items) if ask.why else (),
    )


@dataclass(frozen=True)
class _Filled:
    """The candidates of a slate, what was made of them, and the names of what a fallback replaced in ranking."""

    candidates: Candidates
    arranged: Arranged
    missing: Sequence[str]


@dataclass(frozen=True)
class _Filling:
    """From candidates to slots; `taken`, int64[n], are the rows of the pages before."""

    live: Live
    ask: Ask
    need: Need
    rank: Rank
    watch: Stopwatch
    taken: Rows

    @cached_property
    def frame(self) -> Frame:
        """What the slate is put in."""
        ask, first = self.ask, len(self.ask.shown)
        pins = pinned(self.live, ask.surface, range(first, first + ask.n), self.need.allowed, self.taken)
        return Frame(ask.surface, ask.n, ask.seed, pins, first)

    def fill(self, at_least: int) -> _Filled:
        """Fill the slots from what the sources name and, when that is less than `at_least`, the most used items."""
        frame = self.frame
        candidates = frame.with_pins(gather(self.live, self.need, frame.surface.sources, at_least))
        self.watch.lap("candidates")
        scores, missing = self._scores(candidates)
        if frame.first:
            # Only now: a score's last digits depend on what is scored beside it, and pages are to agree on the order.
            left = ~np.isin(candidates.rows, self.taken)
            candidates, scores = candidates.only(left), scores[left]
        self.watch.lap("ranking")
        arranged = arrange(self.live, frame, candidates, scores)
        self.watch.lap("slate")
        return _Filled(candidates, arranged, missing)

    def _scores(self, candidates: Candidates) -> tuple[Scores, list[str]]:
        ask, missing = self.ask, [] if self.ask.overload is None else [OVERLOAD]
        try:
            if ask.overload == "unranked":
                raise Unranked(OVERLOAD)
            weights = predicted(self.live, ask.surface)
            return self.rank(self.live, self.need.query, candidates.rows, weights), missing
        except Unranked as reason:
            if reason.fallback not in missing:
                missing.append(reason.fallback)
            return candidates.retrieval_scores, missing


def fallbacks_of(live: Live, surface: Surface, state: State) -> tuple[str, ...]:
    """Return the names of what could not be used for a user in `state`."""
    missing = [NO_MODEL] if live.scorer is None else []
    if live.scorer is not None and len(predicted(live, surface)) < len(surface.weights or {}):
        missing.append(NO_TASK)
    if not state.history.events:
        missing.append(NO_HISTORY)
    return (*state.fallbacks, *missing)


def predicted(live: Live, surface: Surface) -> Mapping[str, float]:
    """Return the surface's weights of what the loaded model predicts."""
    known = () if live.scorer is None else live.scorer.conversions
    return {name: weight for name, weight in (surface.weights or {}).items() if name in known}


def _replay_inputs(ask: Ask, computed: Computed) -> ReplayInputs:
    state = computed.state
    forgotten = state.seen - set(state.history.items) if ask.surface.filters.seen == EVER else ()
    return ReplayInputs(
        n=ask.n,
        categories=list(ask.categories),
        exclude=[*ask.exclude, *forgotten],
        shown=list(ask.shown),
        history=encode_history(state.history),
        interaction_offsets=computed.offsets.interactions,
    )


def _logged_context(ask: Ask) -> dict[str, str | float]:
    # Features are texts and numbers on the wire; a flag is 0 or 1.
    return {
        f"{CONTEXT}{name}": float(value) if isinstance(value, bool) else value for name, value in ask.context.items()
    }
