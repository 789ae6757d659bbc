"""Letters: the records that the lander put aside, dead or parked, with where they came from and why.

They lie in the topics `<topic>.dlq` and `<topic>.parked` under the key `topic-partition-offset`. What became of one is
a record of the same key behind it: `replaying` with the offset from which its copy can be found, then `replayed`. So
the memory of a replay lasts as long as the letters themselves.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from streaming.bounded import raw_records
from streaming.config import KafkaSettings
from streaming.records import Record
from streaming.topics import Topics, dead_letters, parked

_log = logging.getLogger(__name__)

_STATE, _SINCE = "state", "since"


class Side(StrEnum):
    """Where a record was put: `dead` does not decode or breaks a rule, `parked` came from a newer release."""

    DEAD = "dead"
    PARKED = "parked"

    def topic(self, topic: str) -> str:
        """Return the topic of the letters of `topic`."""
        return dead_letters(topic) if self is Side.DEAD else parked(topic)


class State(StrEnum):
    """How far the replay of a letter has come."""

    WAITING = "waiting"
    REPLAYING = "replaying"
    REPLAYED = "replayed"


@dataclass(frozen=True)
class Letter:
    """A record as it was in `topic`: its place, key and bytes, when it was appended there (ms UTC), and why it is here.

    A letter from a release that did not note when counts as appended when it was put aside.
    """

    side: Side
    topic: str
    partition: int
    offset: int
    appended_at: int
    reason: str
    key: bytes | None
    value: bytes

    @property
    def id(self) -> str:
        """What names the record for ever."""
        return f"{self.topic}-{self.partition}-{self.offset}"


@dataclass(frozen=True)
class Progress:
    """The state of a letter; while it is replayed, the offset of its partition from which on its copy may lie."""

    state: State
    since: int = 0


def letters(kafka: KafkaSettings, topic: str, side: Side) -> Iterator[Letter]:
    """Yield the letters of a topic, each once, oldest first, and nothing else. Raises BrokerUnavailable."""
    seen: set[str] = set()
    for batch in raw_records(kafka, side.topic(topic)):
        for record in batch:
            letter = _letter(record, topic, side)
            if letter is not None and letter.id not in seen:
                seen.add(letter.id)
                yield letter


def progress(kafka: KafkaSettings, topic: str, side: Side) -> dict[str, Progress]:
    """Return how far each letter that is not `waiting` has come, by its id. Raises BrokerUnavailable."""
    found: dict[str, Progress] = {}
    for batch in raw_records(kafka, side.topic(topic)):
        for record in batch:
            headers = dict(record.headers)
            if _STATE in headers and record.key is not None:
                found[record.key.decode(errors="replace")] = Progress(
                    State(headers[_STATE].decode()), int(headers.get(_SINCE, b"0"))
                )
    return found


def note(letter: Letter, now: Progress) -> Record:
    """Return the record that remembers how far a letter has come."""
    headers = ((_STATE, now.state.value.encode()), (_SINCE, str(now.since).encode()))
    return Record(letter.side.topic(letter.topic), letter.id.encode(), None, headers)


def sides(topics: Topics) -> list[tuple[str, Side]]:
    """Return every topic that can have letters, with both sides."""
    return [(topic, side) for topic in topics.landed for side in Side]


def _letter(record: Any, topic: str, side: Side) -> Letter | None:
    headers = dict(record.headers)
    if _STATE in headers:
        return None
    try:
        place = headers["topic"].decode(), int(headers["partition"]), int(headers["offset"])
        reason, appended_at = headers["reason"].decode(), int(headers.get("appended_at", record.timestamp))
    except (KeyError, ValueError):
        place = "", 0, 0
    if place[0] != topic or record.value is None:
        _log.warning("%s-%d@%d is no letter and is left alone", record.topic, record.partition, record.offset)
        return None
    return Letter(side, *place, appended_at, reason, headers.get("key"), record.value)
