"""Records as Kafka takes them: what an event becomes, and what a spool keeps."""

import msgspec

from streaming.codec import encode
from streaming.events import Event, ItemRemoved, UserErased
from streaming.topics import Topics, key_of

LARGEST_RECORD = 1_000_000
"""The most bytes of a record that are sent; Kafka's own limit is 1,048,576 with what it adds."""

_WITH_TOMBSTONE = (ItemRemoved, UserErased)
_OVERHEAD = 64  # of a record without its fields: in Kafka's log about 20 bytes, in a spool's page about 40


# Without cycles, so the garbage collector need not know of any.
class Record(msgspec.Struct, frozen=True, gc=False):
    """A record for a topic; a null value lets compaction drop the key."""

    topic: str
    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()

    @property
    def size(self) -> int:
        """About how many bytes it takes, wherever it is kept."""
        size = _OVERHEAD + len(self.topic.encode()) + len(self.key) + len(self.value or b"")
        for name, value in self.headers:
            size += len(name.encode()) + len(value)
        return size


def records_of(topics: Topics, event: Event) -> list[Record]:
    """Return the records of an event: one, and for an `ItemRemoved` or `UserErased` the null record of its key too."""
    first = Record(topics.of(event), key_of(event), encode(event))
    if isinstance(event, _WITH_TOMBSTONE):
        return [first, Record(first.topic, first.key, None)]
    return [first]
