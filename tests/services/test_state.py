"""What is known of a user when the store answers and when it does not, against a real Valkey that is stopped."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from features.config import StoreSettings
from features.history import History, HistoryEvent
from features.online import OnlineReader
from features.store import FeatureStore
from features.valkey import Valkey, start_valkey
from services.recommend.state import LAST_KNOWN, NOBODY, STORE_DOWN, LastStates, State, UserStates
from streaming.events import Kind
from streaming.ids import EventId, ItemId, UserId
from streaming.namespace import Namespace

NOW = 1_790_000_000_000
KNOWN, STRANGER = UserId("known"), UserId("stranger")


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def history(*items: str) -> History:
    return History(
        tuple(HistoryEvent(NOW + i, EventId(f"e{i}"), ItemId(item), Kind.CLICK) for i, item in enumerate(items))
    )


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey of this test's own, to be stopped."""
    server = start_valkey(tmp_path / "valkey", StoreSettings(), os.environ)
    yield server
    server.stop()


@pytest.fixture
def features(running: Valkey, namespace: Namespace, tmp_path: Path) -> FeatureStore:
    """The store, with a history."""
    found = FeatureStore(running.settings.model_copy(update={"registry": str(tmp_path / "registry")}), namespace)
    found.apply()
    found.write_histories({KNOWN: (history("a", "b"), NOW * 1000)})
    return found


@asynccontextmanager
async def closing_reader(running: Valkey, namespace: Namespace) -> AsyncIterator[OnlineReader]:
    reader = OnlineReader(running.settings, namespace)
    yield reader
    await reader.close()


@pytest.mark.parametrize("most", [0, 2])
@pytest.mark.usefixtures("features")
def test_while_the_store_is_away_the_last_known_state_counts_for_a_while(
    most: int, running: Valkey, namespace: Namespace
) -> None:
    clock = Clock()

    async def ask() -> None:
        async with closing_reader(running, namespace) as reader:
            states = UserStates(reader, 5.0, 100, LastStates(most, clock), lambda _: None)
            fresh = await states.read(KNOWN, NOW)
            assert list(fresh.history.items) == ["a", "b"]
            assert fresh.fallbacks == ()
            running.stop()
            again = await states.read(KNOWN, NOW)
            assert (again.history, again.seen) == ((fresh.history, fresh.seen) if most else (History(), frozenset()))
            assert again.fallbacks == ((STORE_DOWN, LAST_KNOWN) if most else (STORE_DOWN,))
            assert (await states.read(STRANGER, NOW)).fallbacks == (STORE_DOWN,)
            clock.seconds = 901.0
            assert (await states.read(KNOWN, NOW)).fallbacks == (STORE_DOWN,)

    asyncio.run(ask())


def test_of_an_erased_user_neither_what_is_stored_of_before_nor_what_is_remembered_counts(
    running: Valkey, features: FeatureStore, namespace: Namespace
) -> None:
    cuts: dict[UserId, int] = {}

    async def ask() -> None:
        async with closing_reader(running, namespace) as reader:
            states = UserStates(reader, 5.0, 100, LastStates(2, Clock()), cuts.get)
            assert list((await states.read(KNOWN, NOW)).history.items) == ["a", "b"]
            cuts[KNOWN] = NOW
            of_before = await states.read(KNOWN, NOW)
            assert (of_before.history, of_before.seen) == (History(), frozenset())
            features.write_histories({KNOWN: (history("c"), (NOW + 1) * 1000)})
            assert list((await states.read(KNOWN, NOW)).history.items) == ["c"]
            running.stop()
            gone = await states.read(KNOWN, NOW)
            assert (gone.history, gone.fallbacks) == (History(), (STORE_DOWN,))

    asyncio.run(ask())


def test_the_states_read_last_are_kept_and_no_more_than_so_many() -> None:
    last = LastStates(2, Clock())
    states = {user: State(history(user), frozenset({ItemId(user)}), {}) for user in ("u1", "u2", "u3")}
    for user, state in states.items():
        last.put(UserId(user), state)
    assert last.instead(UserId("u3")).seen == {"u3"}
    assert last.instead(UserId("u2")).fallbacks == (STORE_DOWN, LAST_KNOWN)
    assert last.instead(UserId("u1")).seen == NOBODY.seen
