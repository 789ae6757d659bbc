"""Carrying an erasure out: first the ledger, from which moment nothing of before counts, then store after store.

Every step may be done again. What a run that died has left is pending in the ledger, and the next run does it.
"""

import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from features.lake_erasure import Subject, TableErased, erase_from_lake, linked_sessions, sessions_of, users_of
from features.landed_offsets import landed_until
from features.online_erasure import StoreErased, erase_from_store, rewrite_log, stored_users
from models.config import artifacts_url
from models.registry import Registry
from services.config import Settings
from services.erasure.kept import topic_entries
from services.erasure.receipt import (
    Receipt,
    SignedReceipt,
    StoreEntry,
    iso,
    receipts_folder,
    sign,
    write_receipt,
)
from services.erasure.training_sets import note_training_sets_gone
from services.spooling import spool_places
from streaming.bounded import records
from streaming.codec import FromTheFuture, Undecodable, decode
from streaming.events import (
    ErasureCompleted,
    ErasureEntered,
    Event,
    IdentityLinked,
    Impression,
    Interaction,
    UserErased,
)
from streaming.ids import SessionId, UserId
from streaming.ledger import Ledger, LedgerReader
from streaming.marks import event_owner, owner_of
from streaming.producer import EventProducer
from streaming.records import Record, records_of

_log = logging.getLogger(__name__)

PRODUCER = "erasure"
_HOLD_NONE = {
    "landing checkpoints": "they hold offsets; no id is in a streaming state",
    "model artifacts": "they hold items, weights and digests of content; no model has rows of users",
    "training checkpoints, encoded texts, studies, event files": "they hold items, weights and settings",
    "catalogue snapshots of recommenders": "they hold items, counts by item and hashes of event ids",
}


@dataclass(frozen=True)
class Eraser:
    """What an erasure works with; `settings` know every place."""

    settings: Settings
    spark: SparkSession

    def erase(self, user_id: UserId) -> tuple[SignedReceipt, Path]:
        """Erase a user up to now, also where an erasure is pending; returns the receipt and where it is kept.

        Raises BrokerUnavailable, NotDurable, NotErased, SpoolError, LedgerMissing, ErasureKeyMissing and
        redis.RedisError; after any of them the same call goes on.
        """
        with closing(self._ledger()) as reader:
            reader.refresh()
            mark = reader.ledger.marker.mark(user_id)
            self._publish(UserErased(**_envelope(), user_id=user_id), ErasureEntered(**_envelope(), mark=mark))
            reader.refresh()
            return self._carry_out(reader, mark, self._subject(reader, mark, user_id))

    def erase_pending(self) -> Iterator[tuple[SignedReceipt, Path]]:
        """Carry out every erasure that stands in the ledger and was not completed; raises what `erase` does."""
        with closing(self._ledger()) as reader:
            reader.refresh()
            users = self._users_of(reader.ledger)
            for mark in [*users, *(reader.ledger.pending.keys() - users.keys())]:
                if mark in reader.ledger.pending:  # the sessions of a user are completed with them
                    yield self._carry_out(reader, mark, self._subject(reader, mark, users.get(mark)))

    def erase_again(self) -> Iterator[tuple[SignedReceipt, Path]]:
        """Erase again everybody of whom the lake has something back, as after a restore; raises what `erase` does."""
        namespace = self.settings.topics.namespace
        with closing(self._ledger()) as reader:
            reader.refresh()
            cuts, marker = reader.ledger.cuts, reader.ledger.marker
            users = users_of(self.spark, namespace, cuts, marker)
            done: set[str] = set()
            for mark in {**users, **sessions_of(self.spark, namespace, cuts, marker)}:
                if mark not in done:  # the sessions of a user went with them
                    subject = self._subject(reader, mark, users.get(mark))
                    done |= _marks(reader, mark, subject)
                    yield self._carry_out(reader, mark, subject)

    def _carry_out(self, reader: LedgerReader, mark: str, subject: Subject) -> tuple[SignedReceipt, Path]:
        settings, namespace = self.settings, self.settings.topics.namespace
        erased = erase_from_store(settings.store, namespace, subject)
        spooled, held = self._erase_from_spools(subject)
        lake = erase_from_lake(self.spark, namespace, subject, _now())
        # What was written to the store from the lake meanwhile.
        erased += erase_from_store(settings.store, namespace, subject)
        registry = Registry(artifacts_url(settings.model.under(settings.home)), namespace)
        models = note_training_sets_gone(registry, settings.lake.under(settings.home), namespace, _now())
        entries = [
            *topic_entries(settings.kafka, settings.topics, subject.cut),
            _lake(lake),
            _store(erased, rewrite_log(settings.store)),
            _spools(spooled, held),
            *_other(models),
        ]
        receipt = Receipt(
            namespace=settings.namespace,
            mark=mark,
            sessions=len(subject.sessions),
            cut=iso(subject.cut),
            completed_at=iso(_now()),
            stores=entries,
        )
        signed = sign(receipt, settings.kafka)
        path = write_receipt(receipts_folder(settings.home, namespace), signed)
        pending = reader.ledger.pending
        marks = sorted(_marks(reader, mark, subject) & pending.keys())
        self._publish(*(ErasureCompleted(**_envelope(), mark=one, cut=pending[one]) for one in marks))
        reader.refresh()
        return signed, path

    def _subject(self, reader: LedgerReader, mark: str, user_id: UserId | None) -> Subject:
        """Return who is erased; the sessions of a user are entered in the ledger before anything is deleted."""
        cut, marker = reader.ledger.cuts[mark], reader.ledger.marker
        if user_id is None:
            found = sessions_of(self.spark, self.settings.topics.namespace, [mark], marker)
            return Subject(None, frozenset(found.values()), cut, cut)
        sessions = linked_sessions(self.spark, self.settings.topics.namespace, user_id, cut)
        sessions |= self._linked_in_log(user_id, cut)
        marks = {marker.mark(f"session:{session}") for session in sessions}
        entered = {one for one in marks if reader.ledger.cuts.get(one, -1) >= cut}
        self._publish(*(ErasureEntered(**_envelope(), mark=one) for one in sorted(marks - entered)))
        reader.refresh()
        return Subject(user_id, sessions, cut, max((reader.ledger.cuts[one] for one in marks), default=cut))

    def _linked_in_log(self, user_id: UserId, cut: int) -> frozenset[SessionId]:
        """Return the sessions that turned out to be the user's in what may not have landed yet."""
        settings, topics = self.settings, self.settings.topics
        landed = landed_until(settings.lake.under(settings.home), settings.kafka, topics)
        since = {topics.identities: None, **{one: landed[one] for one in (topics.interactions, topics.impressions)}}
        return frozenset(
            SessionId(event.session_id)
            for topic, offsets in since.items()
            for batch in records(settings.kafka, topic, since=offsets)
            for record in batch
            if isinstance(event := record.event, IdentityLinked | Interaction | Impression)
            and event.user_id == user_id
            and event.session_id is not None
            and min(record.appended_at, event.received_at) <= cut
        )

    def _users_of(self, ledger: Ledger) -> dict[str, UserId]:
        """Return by mark the users of pending entries, from wherever something of them is left."""
        marker, pending = ledger.marker, ledger.pending
        if not pending:
            return {}
        found = dict(users_of(self.spark, self.settings.topics.namespace, pending, marker))
        stored = stored_users(self.settings.store, self.settings.topics.namespace)
        requested = (
            UserId(record.key.decode())
            for batch in records(self.settings.kafka, self.settings.topics.users)
            for record in batch
            if record.key is not None
        )
        for user_id in (*stored, *requested):
            if (mark := marker.mark(user_id)) in pending:
                found[mark] = user_id
        return found

    def _erase_from_spools(self, subject: Subject) -> tuple[int, int]:
        """Take a subject's records out of the spools that no process owns; returns how many, and the owned spools."""
        cuts: dict[str | None, int] = {owner_of(None, session): subject.sessions_cut for session in subject.sessions}
        if subject.user_id is not None:
            cuts[subject.user_id] = subject.cut
        items = self.settings.topics.items
        removed = held = 0
        for place in spool_places(self.settings):
            unowned = 0
            for spool in place.left_behind():
                unowned += 1
                removed += spool.remove_where(lambda record: record.topic != items and _is_erased(record, cuts))
            held += len(place.files()) - unowned
        return removed, held

    def _publish(self, *events: Event) -> None:
        """Append events one after the other, each with its null record acknowledged before the next is sent."""
        if not events:
            return
        with closing(EventProducer(self.settings.kafka, self.settings.topics)) as producer:
            for event in events:
                producer.deliver((record, None) for record in records_of(self.settings.topics, event))

    def _ledger(self) -> LedgerReader:
        return LedgerReader(self.settings.kafka, self.settings.topics)


def _is_erased(record: Record, cuts: Mapping[str | None, int]) -> bool:
    """Whether a record is of somebody who is erased, up to a time in ms by owner; no item has an owner."""
    try:
        event = None if record.value is None else decode(record.value)
    except (Undecodable, FromTheFuture):
        event = None
    if event is None:
        return record.key.decode() in cuts
    owner = event_owner(event)
    return owner is not None and event.received_at <= cuts.get(owner, -1)


def _marks(reader: LedgerReader, mark: str, subject: Subject) -> set[str]:
    """Return what a subject is entered under: its own mark and those of its sessions."""
    return {mark, *(reader.ledger.marker.mark(f"session:{session}") for session in subject.sessions)}


def _lake(tables: list[TableErased]) -> StoreEntry:
    tags = [f"{table.table}: {tag}" for table in tables for tag in table.tags]
    note = "older snapshots expired, manifests rewritten"
    return StoreEntry(
        store="lake",
        removed={table.table: table.rows for table in tables} | {"files": sum(table.files for table in tables)},
        note=f"{note}; dropped the tags {', '.join(tags)}" if tags else note,
    )


def _store(erased: StoreErased, log: str) -> StoreEntry:
    return StoreEntry(store="online store", removed={"users": erased.hashes, "slates": erased.slates}, note=log)


def _spools(removed: int, held: int) -> StoreEntry:
    note = f"{held} spools belong to running services: what they hold of before is dropped by every reader"
    return StoreEntry(store="spools", removed={"records": removed}, note=note if held else "")


def _other(models: list[str]) -> Iterator[StoreEntry]:
    if models:
        yield StoreEntry(store="training sets", removed={}, note=f"gone, as the registry says, of {', '.join(models)}")
    for store, reason in _HOLD_NONE.items():
        yield StoreEntry(store=store, removed={}, note=f"holds no user: {reason}")


def _envelope() -> dict[str, Any]:
    now = _now()
    return {"event_id": uuid.uuid4().hex, "happened_at": now, "received_at": now, "producer": PRODUCER}


def _now() -> int:
    return time.time_ns() // 1_000_000
