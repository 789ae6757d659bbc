"""Replaying letters: the original bytes go back to their topic once they would be understood, and never twice.

A letter is noted as `replaying`, its copy is sent with the letter's id in a header, and it is noted as `replayed`.
After a crash between these steps the next run looks for the copy in the topic before it sends one.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from kafka import TopicPartition

from streaming.bounded import raw_records
from streaming.codec import decode
from streaming.config import KafkaSettings
from streaming.consumer import Received
from streaming.ledger import Ledger
from streaming.letters import Letter, Progress, Side, State, letters, note, progress
from streaming.offsets import bounds
from streaming.producer import EventProducer
from streaming.records import Record
from streaming.topics import Topics

COPY_OF = "replayed-from"
"""The header of a copy: the id of its letter."""

_AT_ONCE = 500


class Fate(StrEnum):
    """What a replay made of a letter.

    A letter of a compacted topic is `superseded` when its key has a later record, which a copy would hide. One of
    a user who was `erased` since is not sent again.
    """

    REPLAYED = "replayed"
    REPLAYED_BEFORE = "replayed_before"
    STILL_BAD = "still_bad"
    SUPERSEDED = "superseded"
    ERASED = "erased"


Judge = Callable[[Letter], str | None]
"""Says why a letter would be put aside again, or None when its event would land."""


@dataclass(frozen=True)
class Redelivery:
    """What a replay works with; one replay of a namespace at a time."""

    kafka: KafkaSettings
    topics: Topics
    producer: EventProducer
    judge: Judge
    ledger: Ledger

    def replay(self, topic: str, side: Side, wanted: Callable[[Letter], bool]) -> Counter[Fate]:
        """Replay the wanted letters of a topic and return how many had which fate.

        Doing so again sends nothing again. Raises BrokerUnavailable, and NotDurable at the first record that is not
        acknowledged.
        """
        known = progress(self.kafka, topic, side)
        sent = self._sent(topic, known)
        later: Mapping[tuple[int, bytes], int] | None = None
        counts: Counter[Fate] = Counter()
        for chunk in _chunks(filter(wanted, letters(self.kafka, topic, side))):
            if later is None:  # which reads the whole topic
                later = self._latest(topic)
            fates = {letter: self._fate(letter, known, sent, later) for letter in chunk}
            self._remember([letter for letter, fate in fates.items() if letter.id in sent and fate is Fate.REPLAYED])
            self._send([letter for letter, fate in fates.items() if letter.id not in sent and fate is Fate.REPLAYED])
            counts.update(fates.values())
        return counts

    def _fate(
        self, letter: Letter, known: Mapping[str, Progress], sent: set[str], later: Mapping[tuple[int, bytes], int]
    ) -> Fate:
        if letter.id in known and known[letter.id].state is State.REPLAYED:
            return Fate.REPLAYED_BEFORE
        if letter.id in sent:
            return Fate.REPLAYED
        if self.judge(letter) is not None:
            return Fate.STILL_BAD
        if self._is_erased(letter):
            return Fate.ERASED
        if letter.key is not None and later.get((letter.partition, letter.key), 0) > letter.offset:
            return Fate.SUPERSEDED
        return Fate.REPLAYED

    def _is_erased(self, letter: Letter) -> bool:
        place = (letter.topic, letter.partition, letter.offset, letter.appended_at)
        return self.ledger.drops(Received(decode(letter.value), letter.key, *place))

    def _send(self, chosen: list[Letter]) -> None:
        if not chosen:
            return
        ends = {part: end for part, (_, end) in bounds(self.kafka, {letter.topic for letter in chosen}).items()}
        since = {letter: ends[TopicPartition(letter.topic, letter.partition)] for letter in chosen}
        self.producer.deliver((note(letter, Progress(State.REPLAYING, since[letter])), 0) for letter in chosen)
        self.producer.deliver((_copy(letter), letter.partition) for letter in chosen)
        self._remember(chosen)

    def _remember(self, replayed: list[Letter]) -> None:
        if replayed:
            self.producer.deliver((note(letter, Progress(State.REPLAYED)), 0) for letter in replayed)

    def _sent(self, topic: str, known: Mapping[str, Progress]) -> set[str]:
        """Return the letters whose replay was cut off but whose copies are in the topic."""
        cut_off = {id_: now.since for id_, now in known.items() if now.state is State.REPLAYING}
        since: dict[int, int] = {}
        for id_, offset in cut_off.items():
            partition = int(id_.split("-")[-2])
            since[partition] = min(offset, since.get(partition, offset))
        if not since:
            return set()
        headers = (dict(record.headers) for batch in raw_records(self.kafka, topic, since=since) for record in batch)
        return {copy_of for found in headers if (copy_of := found.get(COPY_OF, b"").decode()) in cut_off}

    def _latest(self, topic: str) -> dict[tuple[int, bytes], int]:
        """Return the last offset of each partition and key of a compacted topic; nothing of another one."""
        if topic not in self.topics.compacted:
            return {}
        return {
            (record.partition, record.key): record.offset
            for batch in raw_records(self.kafka, topic)
            for record in batch
        }


def _copy(letter: Letter) -> Record:
    return Record(letter.topic, letter.key or b"", letter.value, ((COPY_OF, letter.id.encode()),))


def _chunks(found: Iterator[Letter]) -> Iterator[list[Letter]]:
    chunk: list[Letter] = []
    for letter in found:
        chunk.append(letter)
        if len(chunk) == _AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
