"""The whole circle in memory: one click travels from the slate to the log, the history, the examples, the next model.

The log, the store and the model are fakes; what carries the click between them is the product's own code. The circle
with every real part is `tests/integration`.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from features.history import History, event_of, merge
from features.online import UserState
from features.popularity import PopularityWindow
from models.scorer import Candidates, ItemContent, Query
from models.vocabulary import ItemRow, Vocabulary
from services.collect.bodies import EventBody
from services.collect.intake import Clerk
from services.metrics import RecommendMetrics
from services.recommend.engine import Engine
from services.recommend.impressions import Impressions
from services.recommend.pipeline import Ask, Asker, Pipeline, Slate
from services.recommend.ranker import Ranker
from services.recommend.state import LastStates, UserStates
from services.recommend.surfaces import BUILT_IN, PROBE
from streaming.codec import decode, encode
from streaming.config import KafkaSettings
from streaming.consumer import Received
from streaming.events import Event, Impression, Interaction, ItemUpserted, Kind
from streaming.ids import ItemId, RequestId, UserId
from streaming.marks import Marker
from streaming.namespace import Namespace
from streaming.topics import Topics, key_of

TOPICS = Topics(Namespace("memory"))
NOW = 1_790_000_000_000
ITEMS = [ItemId(letter) for letter in "abcdef"]


class MemoryLog:
    """Topics of one partition, holding wire bytes; also where impressions are offered."""

    def __init__(self) -> None:
        self._records: dict[str, list[tuple[bytes, bytes]]] = defaultdict(list)
        self._read: Counter[str] = Counter()

    def publish(self, event: Event) -> None:
        self._records[TOPICS.of(event)].append((key_of(event), encode(event)))

    def offer(self, impression: Impression) -> None:
        self.publish(impression)

    def events(self, topic: str) -> Iterator[Event]:
        yield from (decode(value) for _, value in self._records[topic])

    def new(self, topic: str) -> list[Received]:
        """What came since the last call."""
        first, self._read[topic] = self._read[topic], len(self._records[topic])
        return [
            Received(decode(value), key, topic, 0, offset, NOW)
            for offset, (key, value) in enumerate(self._records[topic])
            if offset >= first
        ]


class MemoryStore:
    """Histories by user, written by the updater's merge."""

    def __init__(self) -> None:
        self._histories: dict[UserId, History] = defaultdict(History)

    def update(self, received: Sequence[Received]) -> None:
        for record in received:
            if isinstance(record.event, Interaction) and record.event.user_id is not None:
                user_id = UserId(record.event.user_id)
                self._histories[user_id] = merge(self._histories[user_id], [event_of(record.event)], 100)

    async def user_state(self, user_id: UserId, as_of: int | None = None) -> UserState:
        return UserState(self._histories[user_id])


class CountingScorer:
    """A model that counts what follows what."""

    conversions = ()

    def __init__(self, log: MemoryLog, version: str) -> None:
        self.version, self.trained_until = version, NOW
        self._vocabulary = Vocabulary(ITEMS)
        self._next = np.zeros((len(ITEMS), len(ITEMS)), dtype=np.float32)
        last: dict[str | None, int] = {}
        for event in log.events(TOPICS.interactions):
            assert isinstance(event, Interaction)
            row = ITEMS.index(ItemId(event.item_id))
            if event.user_id in last:
                self._next[last[event.user_id], row] += 1
            last[event.user_id] = row

    def row(self, item_id: ItemId) -> ItemRow | None:
        return self._vocabulary.row(item_id)

    def item_id(self, row: ItemRow) -> ItemId:
        return self._vocabulary.item_id(row)

    def add_item(self, item: ItemContent) -> ItemRow:
        return self._vocabulary.add(item.item_id)

    def retrieve(self, query: Query, k: int) -> Candidates:
        rows = np.argsort(-self._after(query), kind="stable")[:k]
        return Candidates(rows, self._after(query)[rows])

    co_visited = retrieve

    def rank(
        self, query: Query, rows: np.ndarray, popularity: PopularityWindow, weights: Mapping[str, float]
    ) -> np.ndarray:
        return self._after(query)[rows]

    def _after(self, query: Query) -> np.ndarray:
        return self._next[ITEMS.index(query.history.items[-1])]


class Circle:
    """The parts, connected as in production but for the processes and networks between them."""

    def __init__(self) -> None:
        self.log, self.store, self.engine = MemoryLog(), MemoryStore(), Engine()
        marker = Marker(KafkaSettings(erasure_key="k" * 40), Namespace("loop"))
        self.clerk = Clerk(now=lambda: NOW, new_id=self._new_id, max_age_ms=1_000, max_ahead_ms=1_000, marker=marker)
        self._ids = 0
        last = LastStates(0, lambda: 0.0)
        states = UserStates(self.store, deadline_s=1.0, history_length=100, last=last, cut=lambda _: None)  # type: ignore[arg-type]
        log, metrics = Impressions(self.log, 0.0), RecommendMetrics(CollectorRegistry())
        self._pipeline = Pipeline(self.engine, states, log, metrics, lambda: 0.0, Ranker(1.0, lambda: 0.0))
        for item in ITEMS:
            self.log.publish(ItemUpserted(**envelope(f"item-{item}"), item_id=item))
        self.flow()

    def flow(self) -> None:
        """Let the consumers catch up with the log."""
        interactions = self.log.new(TOPICS.interactions)
        self.engine.apply_items(self.log.new(TOPICS.items))
        self.store.update(interactions)
        self.engine.apply_interactions(interactions)

    def act(self, user: str, item: str, request_id: str | None = None) -> None:
        """Send an interaction as an application does, through the collector's intake."""
        body = EventBody(user_id=user, item_id=item, kind=Kind.CLICK, request_id=request_id)
        event = self.clerk.interaction(body)
        assert isinstance(event, Interaction)
        self.log.publish(event)
        self.flow()

    def retrain(self, version: str) -> None:
        """Train on the log and put the model in place."""
        self.engine.swap(CountingScorer(self.log, version))  # type: ignore[arg-type]

    def ask(self, user: str, request_id: str = "request") -> Slate:
        """Ask for three items on the surface that explores nothing."""
        ask = Ask(n=3, surface=BUILT_IN[PROBE], as_of=NOW + 1, seed=None)
        return asyncio.run(self._pipeline.recommend(RequestId(request_id), Asker(UserId(user), None), ask))

    def _new_id(self) -> str:
        self._ids += 1
        return f"event-{self._ids:04d}"


def envelope(event_id: str) -> dict[str, object]:
    return {"event_id": event_id, "happened_at": NOW, "received_at": NOW, "producer": "test"}


def shown(slate: Slate) -> list[str]:
    return [item.item_id for item in slate.items]


@pytest.fixture
def circle() -> Circle:
    circle = Circle()
    for user, items in {"u1": "ab", "u2": "ad", "u3": "ad", "u4": "be"}.items():
        for item in items:
            circle.act(user, item)
    circle.retrain("m1")
    return circle


def test_a_click_changes_the_next_slate(circle: Circle) -> None:
    circle.act("ann", "a")
    before = circle.ask("ann", "r1")
    assert shown(before)[:2] == ["d", "b"]  # a was followed by d twice, by b once
    circle.act("ann", "b", request_id="r1")
    after = circle.ask("ann", "r2")
    assert shown(after)[0] == "e"  # b was followed by e
    assert "b" not in shown(after)


def test_a_click_makes_the_next_model_better_for_somebody_else(circle: Circle) -> None:
    circle.act("bob", "a")
    assert shown(circle.ask("bob"))[0] == "d"
    for user in ("x", "y", "z"):
        circle.act(user, "a")
        circle.act(user, "b", request_id="r")
    circle.retrain("m2")
    slate = circle.ask("bob")
    assert (shown(slate)[0], slate.model_version) == ("b", "m2")


def test_the_slate_in_the_log_says_which_shown_item_was_clicked(circle: Circle) -> None:
    circle.act("ann", "a")
    slate = circle.ask("ann", "r1")
    circle.act("ann", slate.items[1].item_id, request_id="r1")
    (impression,) = circle.log.events(TOPICS.impressions)
    assert isinstance(impression, Impression)
    clicked = {
        event.item_id
        for event in circle.log.events(TOPICS.interactions)
        if isinstance(event, Interaction) and event.request_id == impression.request_id
    }
    assert [item.item_id in clicked for item in impression.slate] == [False, True, False]
    assert impression.user_state is not None
    assert impression.user_state.history == ["a"]
    assert all(item.propensity == 1.0 for item in impression.slate)


def test_without_a_model_the_slate_is_what_others_use(circle: Circle) -> None:
    empty = Circle()
    for user, item in (("u1", "c"), ("u2", "c"), ("u3", "f")):
        empty.act(user, item)
    slate = empty.ask("nobody")
    assert shown(slate)[:2] == ["c", "f"]
    assert set(slate.fallbacks) == {"no_model", "no_history"}
