"""What can go wrong for a caller of the services."""

from collections.abc import Sequence

from services.api.problems import Problem
from services.collect.bodies import EventBody, Result


class ClientError(Exception):
    """A call did not do what it was asked; the text says what and why in one sentence."""


class Refused(ClientError):
    """The service does not take the request as it is; sending it again changes nothing. `problem` names the fields."""

    def __init__(self, path: str, problem: Problem) -> None:
        super().__init__(f"{path} was refused with {problem.status}: {problem.detail}")
        self.problem = problem


class Unavailable(ClientError):
    """The service did not answer, or asked to come again later, until no tries were left.

    `results` has, for parts that were sent together, what became of each. None is for those of which nobody knows: they
    may be durable, so give events an `event_id` of your own before you send them again.
    """

    def __init__(self, path: str, tries: int, why: str, results: Sequence[Result | None] = ()) -> None:
        super().__init__(f"{path} got no answer that counts in {tries} tries: {why}")
        self.results = results


class Undelivered(ClientError):
    """The client was closed with events that no collector has acknowledged: `events` still are to be sent."""

    def __init__(self, events: Sequence[EventBody]) -> None:
        super().__init__(f"{len(events)} events were not delivered when the client was closed: send them again")
        self.events = events


class BufferFull(ClientError):
    """More events wait for the collector than the client holds."""
