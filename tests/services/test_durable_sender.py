"""Events of many requests at once: so many are on their way to Kafka, and the others wait their turn."""

import asyncio
from collections.abc import Callable

from clicks import click

from services.collect.durable import DurableSender
from streaming.events import Event
from streaming.outbox import Outcome, Settle


class SlowOutbox:
    """Takes events and settles them when it is told to."""

    def __init__(self) -> None:
        self.taken: list[Settle] = []

    def send(self, event: Event, settle: Settle) -> None:
        self.taken.append(settle)

    def settle_all(self) -> None:
        taken, self.taken = self.taken, []
        for settle in taken:
            settle(Outcome.SENT)


def events(count: int) -> list[Event]:
    return [click(number) for number in range(count)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_large_requests_wait_their_turn_and_all_are_answered_also_when_some_give_up() -> None:
    async def scenario() -> None:
        outbox = SlowOutbox()
        sender = DurableSender(outbox, patience_s=60)  # type: ignore[arg-type]
        requests = [asyncio.create_task(sender.send(events(1_000))) for _ in range(5)]
        await until(lambda: len(outbox.taken) == 2_000)
        small = asyncio.create_task(sender.send(events(1)))
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(outbox.taken) == 2_000
        requests[2].cancel()  # one that waits
        requests[0].cancel()  # one whose events are on their way
        await until(lambda: len(outbox.taken) == 3_000)
        while not all(request.done() for request in (*requests, small)):
            outbox.settle_all()
            await asyncio.sleep(0)
        assert await small == [Outcome.SENT]
        assert [request.cancelled() for request in requests] == [True, False, True, False, False]
        assert [len(request.result()) for request in requests if not request.cancelled()] == [1_000] * 3

    asyncio.run(asyncio.wait_for(scenario(), 60))


def test_where_kafka_answers_nothing_no_request_waits_for_longer_than_the_patience() -> None:
    async def scenario() -> None:
        outbox = SlowOutbox()
        sender = DurableSender(outbox, patience_s=0.01)  # type: ignore[arg-type]
        requests = [asyncio.create_task(sender.send(events(1_000))) for _ in range(5)]
        await until(lambda: len(outbox.taken) == 5_000)
        outbox.settle_all()
        assert [set(outcomes) for outcomes in await asyncio.gather(*requests)] == [{Outcome.SENT}] * 5

    asyncio.run(asyncio.wait_for(scenario(), 60))
