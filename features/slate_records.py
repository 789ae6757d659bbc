"""Records of slates in the online store: what each was computed from, for some minutes, found by request and by owner.

A record goes when its time is up, when its writer has written enough newer ones, or when its owner's are deleted. An
owner is the user or the guest's session that a slate was made for; sorted sets of an owner's request ids, scored by the
time at which their records go, make the records deletable. Their keys hold digests, so no id stands in a key.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from features.config import StoreSettings, store_url
from features.history import History, HistoryEvent
from streaming.events import Impression, Kind, LoggedState
from streaming.ids import EventId, ItemId, RequestId, SessionId, UserId
from streaming.namespace import Namespace

EVENTS_KEPT = 200
"""How many of a history's newest events a record keeps."""
MOST_BYTES = 32_768
"""Larger records are not kept."""

_TIMEOUT_S = 2.0
_AT_ONCE = 500
_CLOCKS_APART_MS = 60_000
_CHUNK = 200  # records in a call: the server does nothing else meanwhile
# One script call for many records: a command for each would cost several times the CPU here. KEYS holds three of a
# record: its own and those of its owners' entries, or nothing. Entries come before their record: one that nothing
# leads to could not be deleted.
_PUT = """
for n = 0, #KEYS / 3 - 1 do
  local id, data, gone_at = ARGV[3 * n + 3], ARGV[3 * n + 4], ARGV[3 * n + 5]
  for owner = 3 * n + 2, 3 * n + 3 do
    if KEYS[owner] ~= '' then
      redis.call('ZREMRANGEBYSCORE', KEYS[owner], '-inf', ARGV[1])
      redis.call('ZADD', KEYS[owner], gone_at, id)
      redis.call('PEXPIREAT', KEYS[owner], gone_at + ARGV[2])
    end
  end
  redis.call('SET', KEYS[3 * n + 1], data, 'PXAT', gone_at)
end
"""
_DROP = """
for n = 0, #KEYS / 3 - 1 do
  redis.call('DEL', KEYS[3 * n + 1])
  for owner = 3 * n + 2, 3 * n + 3 do
    if KEYS[owner] ~= '' then redis.call('ZREM', KEYS[owner], ARGV[n + 1]) end
  end
end
"""


class SlateRecord(msgspec.Struct, frozen=True):
    """A slate with the state it was computed from: what a model reads of the newest events, oldest first.

    The impression's own list of the history is empty, since the events have it.
    """

    impression: Impression
    times: list[int]
    items: list[ItemId]
    kinds: list[Kind]

    @classmethod
    def of(cls, impression: Impression, history: History) -> "SlateRecord":
        """Take a slate and the history it was computed from."""
        newest = history.events[-EVENTS_KEPT:]
        if impression.user_state is not None:
            state = LoggedState(history=[], features=impression.user_state.features)
            impression = msgspec.structs.replace(impression, user_state=state)
        return cls(
            impression,
            [event.happened_at for event in newest],
            [event.item_id for event in newest],
            [event.kind for event in newest],
        )

    @property
    def history(self) -> History:
        """The newest events, without ids and values."""
        columns = zip(self.times, self.items, self.kinds, strict=True)
        return History(tuple(HistoryEvent(time, EventId(""), item, kind) for time, item, kind in columns))

    @property
    def is_cut(self) -> bool:
        """Whether the history may have been longer."""
        return len(self.times) == EVENTS_KEPT


@dataclass(frozen=True)
class Kept:
    """A record in the store: whose it is and when it goes, ms."""

    request_id: RequestId
    user_id: UserId | None
    session_id: SessionId | None
    until: int

    @classmethod
    def of(cls, impression: Impression, until: int) -> "Kept":
        """Return how the record of an impression is found."""
        user, session = impression.user_id, impression.session_id
        return cls(
            impression.request_id,
            None if user is None else UserId(user),
            None if session is None else SessionId(session),
            until,
        )


@dataclass(frozen=True)
class RecordKeys:
    """Where a namespace's records lie in the store."""

    namespace: Namespace

    def record(self, request_id: RequestId) -> str:
        """Return the key of a record."""
        return f"flywheel:{self.namespace}:slate:{request_id}"

    def of_user(self, user_id: UserId) -> str:
        """Return the key of a user's request ids."""
        return self._owner("user", user_id)

    def of_session(self, session_id: SessionId) -> str:
        """Return the key of a session's request ids."""
        return self._owner("session", session_id)

    def owners(self, kept: Kept) -> tuple[str, str]:
        """Return the keys of the request ids of the user and of the session, nothing for one that there is not."""
        user, session = kept.user_id, kept.session_id
        return "" if user is None else self.of_user(user), "" if session is None else self.of_session(session)

    def _owner(self, kind: str, owner: str) -> str:
        digest = hashlib.sha256(f"{self.namespace}\n{kind}\n{owner}".encode()).hexdigest()
        return f"flywheel:{self.namespace}:slates:{digest}"


def encode_record(record: SlateRecord) -> bytes:
    """Return the stored form of a record."""
    return _encoder.encode(record)


def decode_record(data: bytes) -> SlateRecord:
    """Return the record in `data`; raises msgspec.DecodeError when it holds none."""
    return _decoder.decode(data)


class SlateRecords:
    """Writes and deletes records; every method raises redis.RedisError when the store is down."""

    def __init__(self, store: StoreSettings, namespace: Namespace) -> None:
        self._keys = RecordKeys(namespace)
        self._redis: Any = Redis.from_url(
            store_url(store), socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
        self._put, self._drop = self._redis.register_script(_PUT), self._redis.register_script(_DROP)

    def write(self, records: Sequence[tuple[Kept, bytes]], replaced: Sequence[Kept], now: int) -> None:
        """Put records, each with its encoded form, and take older ones out; `now` in ms."""
        for start in range(0, len(replaced), _CHUNK):
            chunk = replaced[start : start + _CHUNK]
            self._drop(self._keys_of(chunk), [kept.request_id for kept in chunk])
        for start in range(0, len(records), _CHUNK):
            put = records[start : start + _CHUNK]
            values = (value for kept, data in put for value in (kept.request_id, data, kept.until))
            self._put(self._keys_of([kept for kept, _ in put]), [now, _CLOCKS_APART_MS, *values])

    def delete_user(self, user_id: UserId) -> int:
        """Delete every record of a user and return how many there were."""
        return self._delete(self._keys.of_user(user_id))

    def delete_session(self, session_id: SessionId) -> int:
        """Delete every record of a guest's session and return how many there were."""
        return self._delete(self._keys.of_session(session_id))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def _keys_of(self, records: Iterable[Kept]) -> list[str]:
        return [key for kept in records for key in (self._keys.record(kept.request_id), *self._keys.owners(kept))]

    def _delete(self, owner: str) -> int:
        # Entries go after their records and one by one: what is interrupted can be done again, and what a recommender
        # writes meanwhile is found in the next round.
        deleted = 0
        while ids := self._redis.execute_command("ZRANGE", owner, 0, _AT_ONCE - 1):
            keys = [self._keys.record(RequestId(request_id.decode())) for request_id in ids]
            deleted += int(self._redis.execute_command("DEL", *keys))
            self._redis.execute_command("ZREM", owner, *ids)
        return deleted


class SlateRecordReader:
    """Reads records in a service; its connections belong to the event loop that uses it first."""

    def __init__(self, store: StoreSettings, namespace: Namespace) -> None:
        self._keys = RecordKeys(namespace)
        self._redis: Any = AsyncRedis.from_url(store_url(store), socket_connect_timeout=_TIMEOUT_S)

    async def read(self, request_id: RequestId) -> SlateRecord | None:
        """Return the record of a request, None when there is none (any more); raises redis.RedisError."""
        data = await self._redis.execute_command("GET", self._keys.record(request_id))
        return None if data is None else decode_record(data)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(SlateRecord)
