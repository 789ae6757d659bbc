"""Who may use the live state when: requests among themselves, and against a thread with much to change."""

import asyncio
import threading

import msgspec
from clicks import click

from services.recommend.engine import Engine
from streaming.consumer import Received
from streaming.events import ItemUpserted

NOW = 1_790_000_000_000


def records(numbers: range) -> list[Received]:
    return [
        Received(
            ItemUpserted(
                event_id=f"e{number}",
                happened_at=NOW,
                received_at=NOW,
                producer="test",
                item_id=f"i{number % 500}",
                title="t",
            ),
            b"",
            "items",
            0,
            number,
            0,
        )
        for number in numbers
    ]


def test_the_event_loop_looks_at_its_sockets_between_two_requests_that_compute() -> None:
    engine, order = Engine(), []

    async def ask(number: int) -> None:
        await engine.compute(lambda _: order.append(f"computed {number}"))

    async def look() -> None:
        for number in range(3):
            order.append(f"looked {number}")
            await asyncio.sleep(0)

    async def both() -> None:
        await asyncio.gather(*(ask(number) for number in range(3)), look())

    asyncio.run(both())
    computed = [order.index(f"computed {number}") for number in range(3)]
    looked = [order.index(f"looked {number}") for number in range(3)]
    assert computed == sorted(computed)
    assert any(computed[0] < at < computed[2] for at in looked)


def test_an_interaction_from_the_future_does_not_end_the_days_that_count() -> None:
    engine = Engine()
    engine.apply_items(records(range(2)))

    def use(number: int, happened_at: int) -> Received:
        event = msgspec.structs.replace(click(number), happened_at=happened_at, item_id=f"i{number}")
        return Received(event, b"u", "interactions", 0, number, NOW)

    engine.apply_interactions([use(0, NOW), use(1, NOW + 100 * 86_400_000)])
    assert asyncio.run(engine.compute(lambda live: live.popularity.total(NOW, 30))) == 1


def test_requests_get_their_turn_while_a_thread_has_many_changes_to_make() -> None:
    engine, enough = Engine(), threading.Event()
    batch = records(range(1_000))

    def change() -> None:
        while not enough.is_set():
            engine.apply_items(batch)

    async def ask() -> None:
        # A request that had to wait for a whole batch would always find the batch's end.
        while await engine.compute(lambda _: engine.offsets.catalogue.get("0")) in (None, 1_000):
            pass

    changing = threading.Thread(target=change)
    changing.start()
    try:
        asyncio.run(asyncio.wait_for(ask(), 60))
    finally:
        enough.set()
        changing.join()


def test_who_waits_no_longer_is_not_computed_for() -> None:
    engine, computed = Engine(), []

    async def ask() -> None:
        asked = [asyncio.create_task(engine.compute(lambda _, n=number: computed.append(n))) for number in range(3)]
        await asyncio.sleep(0)
        asked[2].cancel()
        await asyncio.gather(*asked, return_exceptions=True)

    asyncio.run(ask())
    assert computed == [0, 1]
