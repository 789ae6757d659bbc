"""Erasing a user from the online store by their exact keys, and from the log that the server itself keeps."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from features.config import StoreSettings, store_url
from features.lake_erasure import Subject
from features.online import Layout, SyncOnlineReader
from features.slate_records import SlateRecords
from streaming.ids import UserId
from streaming.namespace import Namespace

_REWRITE_S = 120.0
_POLL_S = 0.05
_SCANNED_AT_ONCE = 1_000


@dataclass(frozen=True)
class StoreErased:
    """What was deleted: hashes of histories and features, and records of slates."""

    hashes: int
    slates: int

    def __add__(self, other: "StoreErased") -> "StoreErased":
        return StoreErased(self.hashes + other.hashes, self.slates + other.slates)


def erase_from_store(store: StoreSettings, namespace: Namespace, subject: Subject) -> StoreErased:
    """Delete what the store has of a subject; doing it again changes nothing. Raises redis.RedisError.

    The server's own log keeps what was deleted until `rewrite_log`.
    """
    reader, records = SyncOnlineReader(store, namespace), SlateRecords(store, namespace)
    try:
        users = [] if subject.user_id is None else [subject.user_id]
        hashes = sum(_erase(reader, user_id, subject.cut) for user_id in users)
        slates = sum(records.delete_user(user_id) for user_id in users)
        slates += sum(records.delete_session(session_id) for session_id in subject.sessions)
    finally:
        reader.close()
        records.close()
    return StoreErased(hashes, slates)


def _erase(reader: SyncOnlineReader, user_id: UserId, cut: int) -> int:
    """Delete a user's hash; of one who has come back since, only the features of before: the history is new."""
    [state] = reader.user_states([user_id])
    if not state.since(cut).history.events:
        return reader.delete_users([user_id])
    return int(state.features_at is not None and state.features_at <= cut and reader.delete_features(user_id) > 0)


def stored_users(store: StoreSettings, namespace: Namespace) -> Iterator[UserId]:
    """Yield the users whose histories or features the store has; reads every key of the server."""
    layout = Layout.of(store, namespace)
    ending = layout.project.encode()
    beginning = layout.user_key(UserId(""))[: -len(ending) - 4]  # up to the length of the id
    client: Any = Redis.from_url(store_url(store))
    try:
        for key in client.scan_iter(count=_SCANNED_AT_ONCE):
            if key.startswith(beginning) and key.endswith(ending):
                yield UserId(key[len(beginning) + 4 : -len(ending)].decode())
    finally:
        client.close()


def rewrite_log(store: StoreSettings) -> str:
    """Have the server write its append-only file anew, which keeps deleted values until then; returns what happened."""
    client: Any = Redis.from_url(store_url(store))
    try:
        if not client.info("persistence")["aof_enabled"]:
            return "the server keeps no append-only file; its own dumps hold the user until the next one"
        status = _rewritten(client, time.monotonic() + _REWRITE_S)
    except ResponseError as error:
        return f"the server did not rewrite its append-only file ({error}): rewrite it by hand"
    except TimeoutError:
        return f"the server had not rewritten its append-only file after {_REWRITE_S:.0f} s"
    except RedisError as error:
        return f"the server's append-only file could not be looked at: {error}"
    finally:
        client.close()
    if status != "ok":
        return "the server could not rewrite its append-only file, its log says why: mend that and rewrite it by hand"
    return "append-only file rewritten"


def _rewritten(client: Any, deadline: float) -> str:
    """Have the file rewritten and return the server's word for how that went; raises TimeoutError.

    A rewrite that was under way may have begun before the deletion that is to go: another one follows it.
    """
    has_begun = False
    while time.monotonic() < deadline:
        found = client.info("persistence")
        if not found["aof_rewrite_in_progress"] and not found["aof_rewrite_scheduled"]:
            if has_begun:
                return str(found["aof_last_bgrewrite_status"])
            has_begun = _begins_rewriting(client)
        time.sleep(_POLL_S)
    raise TimeoutError


def _begins_rewriting(client: Any) -> bool:
    try:
        client.bgrewriteaof()
    except ResponseError as error:
        if "in progress" not in str(error):
            raise
        return False
    return True
