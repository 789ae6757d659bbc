"""Reading the online store without Feast: one hash per user holds every view, one HMGET reads it.

The layout is that of Feast's Redis store with entity keys of version 3; a contract test compares with Feast's own
reader. Presence and freshness are judged here, since Feast calls an absent row present and ignores a view's age when it
reads online.
"""

import struct
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import mmh3
from redis import Redis

from features.config import StoreSettings, store_url
from features.history import History, decode_history
from features.project import HISTORY, USER, USER_VIEW, View, feast_project
from features.store_connection import StoreConnection
from streaming.ids import UserId
from streaming.namespace import Namespace

# redis-py types keys as text; Feast's are bytes, hence the untyped clients below.
_DAY_MS = 86_400_000
_STRING = 2  # Feast's ValueType.STRING

Value = float | int | str | bytes | bool


@dataclass(frozen=True)
class UserState:
    """What the store knows of a user.

    `features` is empty, and `features_at` (ms) None, when there are none or they are too old. `history_version` counts
    the history's writes: microseconds, 0 when there is no history.
    """

    history: History = field(default_factory=History)
    features: Mapping[str, float | str] = field(default_factory=dict)
    features_at: int | None = None
    history_version: int = 0

    def since(self, cut: int) -> Self:
        """Return the state without what is of before an erasure at `cut`, ms.

        A history's version is the append time of its newest record, and the first write after an erasure starts from
        nothing, so a history that was written since holds nothing from before.
        """
        kept = self if self.history_version >= (cut + 1) * 1000 else replace(self, history=History())
        if kept.features_at is None or kept.features_at > cut:
            return kept
        return replace(kept, features={}, features_at=None)


@dataclass(frozen=True)
class Layout:
    """Where a namespace's rows lie in the store, and when user features count as absent (days)."""

    project: str
    feature_max_age_days: int

    @classmethod
    def of(cls, store: StoreSettings, namespace: Namespace) -> Self:
        """Return the layout of `namespace`."""
        return cls(feast_project(namespace), store.feature_max_age_days)

    def user_key(self, user_id: UserId) -> bytes:
        """Return the key of a user's hash."""
        return entity_key(USER, user_id) + self.project.encode()

    def user_state(self, row: Sequence[bytes | None], as_of: int) -> UserState:
        """Return the state in a hash's USER_FIELDS; features later than `as_of` (ms) or too old count as absent."""
        history, history_stamp, features_stamp, *features = row
        version = decode_stamp(history_stamp) if history_stamp is not None else 0
        known = decode_value(history) if history is not None else None
        features_at = decode_stamp(features_stamp) // 1000 if features_stamp is not None else None
        if features_at is None or not as_of - self.feature_max_age_days * _DAY_MS <= features_at <= as_of:
            return UserState(_history(known), history_version=version)
        values = {
            name: decoded
            for name, raw in zip(USER_VIEW.features, features, strict=True)
            if raw is not None and isinstance(decoded := decode_value(raw), float | int | str)
        }
        return UserState(_history(known), values, features_at, version)


class OnlineReader:
    """Reads user states in a service; its connections belong to the event loop that uses it first."""

    def __init__(self, store: StoreSettings, namespace: Namespace) -> None:
        self._layout = Layout.of(store, namespace)
        self._store = StoreConnection(store_url(store))

    async def user_state(self, user_id: UserId, as_of: int | None = None) -> UserState:
        """Return what the store knows of a user at `as_of` (ms, now if None); raises redis.RedisError when it is down.

        The history is the live one whatever `as_of` is; `History.before` cuts it.
        """
        row = await self._store.ask("HMGET", self._layout.user_key(user_id), *USER_FIELDS)
        return self._layout.user_state(row, _now() if as_of is None else as_of)

    async def close(self) -> None:
        """Close the connection."""
        await self._store.close()


class SyncOnlineReader:
    """Reads the states of many users at once, for the updater and for jobs."""

    def __init__(self, store: StoreSettings, namespace: Namespace) -> None:
        self._layout = Layout.of(store, namespace)
        self._redis: Any = Redis.from_url(store_url(store))

    def user_states(self, user_ids: Sequence[UserId], as_of: int | None = None) -> list[UserState]:
        """Return the users' states in their order, in one round trip."""
        with self._redis.pipeline(transaction=False) as pipe:
            for user_id in user_ids:
                pipe.execute_command("HMGET", self._layout.user_key(user_id), *USER_FIELDS)
            rows = pipe.execute()
        at = _now() if as_of is None else as_of
        return [self._layout.user_state(row, at) for row in rows]

    def stored_histories(self, user_ids: Sequence[UserId]) -> list[bytes | None]:
        """Return the users' histories in their stored form, in one round trip."""
        field_name = hash_field(HISTORY.name, HISTORY.features[0])
        with self._redis.pipeline(transaction=False) as pipe:
            for user_id in user_ids:
                pipe.execute_command("HGET", self._layout.user_key(user_id), field_name)
            values = [decode_value(raw) if raw is not None else None for raw in pipe.execute()]
        return [value if isinstance(value, bytes) else None for value in values]

    def delete_users(self, user_ids: Sequence[UserId]) -> int:
        """Delete all that the store has of users, by their exact keys; returns how many it had something of."""
        keys = [self._layout.user_key(user_id) for user_id in user_ids]
        return int(self._redis.execute_command("DEL", *keys)) if keys else 0

    def delete_features(self, user_id: UserId) -> int:
        """Delete a user's features and keep the history; returns how many fields there were."""
        return int(self._redis.execute_command("HDEL", self._layout.user_key(user_id), *_fields(USER_VIEW)))

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()


def entity_key(join_key: str, value: str) -> bytes:
    """Return Feast's serialised entity key, version 3, of one string entity."""
    name, text = join_key.encode(), value.encode()
    return struct.pack("<III", 1, _STRING, len(name)) + name + struct.pack("<II", _STRING, len(text)) + text


def hash_field(view: str, feature: str) -> bytes:
    """Return the hash field of a feature: 32-bit murmur3, little endian."""
    return struct.pack("<I", mmh3.hash(f"{view}:{feature}", signed=False))


def stamp_field(view: str) -> bytes:
    """Return the hash field of a view's timestamp."""
    return f"_ts:{view}".encode()


def decode_value(data: bytes) -> Value | None:
    """Return the scalar in a serialised Feast value (a protobuf `oneof`), None for an empty one."""
    if not data:
        return None
    tag, position = _varint(data, 0)
    number = tag >> 3
    if number in (1, 2):
        length, position = _varint(data, position)
        content = data[position : position + length]
        return content if number == 1 else content.decode()
    if number == 5:
        return float(struct.unpack_from("<d", data, position)[0])
    if number == 6:
        return float(struct.unpack_from("<f", data, position)[0])
    if number in (3, 4, 7):
        raw, _ = _varint(data, position)
        return bool(raw) if number == 7 else raw - (1 << 64) if raw >> 63 else raw
    raise ValueError(f"Feast value of field {number} is no scalar that features use")


def decode_stamp(data: bytes) -> int:
    """Return a serialised protobuf timestamp in microseconds since the epoch."""
    seconds = nanos = position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, position = _varint(data, position)
        if tag >> 3 == 1:
            seconds = number
        else:
            nanos = number
    return seconds * 1_000_000 + nanos // 1000


def _varint(data: bytes, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, position
        shift += 7


def _fields(*views: View) -> list[bytes]:
    return [field for view in views for field in (stamp_field(view.name), *(_features(view)))]


def _features(view: View) -> list[bytes]:
    return [hash_field(view.name, feature) for feature in view.features]


USER_FIELDS = [*_features(HISTORY), stamp_field(HISTORY.name), *_fields(USER_VIEW)]
"""The fields of a user's hash in the order that `Layout.user_state` takes them."""


def _history(stored: Value | None) -> History:
    return decode_history(stored) if isinstance(stored, bytes) else History()


def _now() -> int:
    return time.time_ns() // 1_000_000
