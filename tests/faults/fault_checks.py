"""What must hold after faults, in the manner of Jepsen's workload for Kafka: each check reads the stores by itself."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from environ import without_settings
from fault_load import Log, Sent
from topic_records import records

from features.online import SyncOnlineReader
from features.snapshots import read_table
from services.config import Settings
from services.environment import settings_environ
from streaming.ids import UserId
from streaming.topics import dead_letters


@dataclass(frozen=True)
class Besides:
    """What was sent beside the load: how many poison records, and the event ids of each user that was erased."""

    poison: int
    erased: Mapping[UserId, Sequence[str]]


def check_all(settings: Settings, log: Log, besides: Besides) -> dict[str, int]:
    """Check everything; returns the counts that were compared. The consumers must have caught up.

    Raises AssertionError naming the first event that is lost, doubled or out of order.
    """
    assert log.refused == [], f"refused without reason: {log.refused[:3]}"
    acknowledged = log.all()
    in_log = _event_ids(settings, settings.topics.interactions)
    _nothing_is_lost(acknowledged, in_log, "Kafka")
    _keys_are_in_order(log, in_log)
    in_lake = _lake(settings)
    _nothing_is_lost(acknowledged, in_lake, "the lake")
    doubled = [event_id for event_id, count in Counter(in_lake).items() if count > 1]
    assert doubled == [], f"more than once in the lake: {doubled[:3]}"
    erased = {event_id for of_user in besides.erased.values() for event_id in of_user}
    assert erased <= set(in_log), "what was erased was never in Kafka"
    assert set(in_lake) == set(in_log) - erased, "the lake holds what was never in Kafka, or what was erased"
    _histories_are_those_without_faults(settings, log)
    _nobody_is_back(settings, besides.erased)
    dead = len(records(settings.kafka, dead_letters(settings.topics.interactions)))
    assert dead == besides.poison, f"{besides.poison} poison records became {dead} dead letters"
    counts = {"acknowledged": len(acknowledged), "in_log": len(in_log), "in_lake": len(in_lake)}
    return counts | {"dead": dead, "erased": len(erased)}


def command(settings: Settings, *argv: str) -> Any:
    """Run a command to its end and return its JSON; AssertionError when it fails."""
    environ = without_settings()
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *argv, "--json"],
        env={**environ, **settings_environ(settings)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, (
        f"{' '.join(argv)} ended with {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    )
    return json.loads(done.stdout)


def _nothing_is_lost(acknowledged: Iterable[Sent], found: Iterable[str], where: str) -> None:
    known = set(found)
    lost = [sent for sent in acknowledged if sent.event_id not in known]
    assert lost == [], f"{len(lost)} acknowledged events are not in {where}, the first is {lost[0]}"


def _keys_are_in_order(log: Log, in_log: Iterable[str]) -> None:
    """Every user's batches appear in Kafka, each for the first time, in the order in which they were sent."""
    batch_of = {sent.event_id: (sent.user_id, sent.batch) for sent in log.all()}
    newest: defaultdict[str, int] = defaultdict(lambda: -1)
    for event_id in dict.fromkeys(in_log):
        if event_id in batch_of:
            user_id, batch = batch_of[event_id]
            assert batch >= newest[user_id], f"{event_id} came into Kafka after batch {newest[user_id]} of its user"
            newest[user_id] = batch


def _histories_are_those_without_faults(settings: Settings, log: Log) -> None:
    limit = settings.store.history_length
    reader = SyncOnlineReader(settings.store, settings.topics.namespace)
    try:
        users = [UserId(user) for user in log.acknowledged]
        for user, state in zip(users, reader.user_states(users), strict=True):
            sent = sorted(log.acknowledged[user], key=lambda one: (one.happened_at, one.event_id))[-limit:]
            wanted = [(one.event_id, one.item_id, one.kind, one.happened_at) for one in sent]
            found = [(one.event_id, one.item_id, str(one.kind), one.happened_at) for one in state.history.events]
            assert found == wanted, f"the history of {user} is not that of a run without faults"
    finally:
        reader.close()


def _nobody_is_back(settings: Settings, users: Iterable[UserId]) -> None:
    for user in users:
        found = {one["store"]: one["verdict"] for one in command(settings, "erase", "--verify", user)}
        assert found["lake"] == found["online store"] == "gone", f"{user} was erased: {found}"


def _lake(settings: Settings) -> list[str]:
    lake = settings.lake.under(settings.home)
    table = read_table(lake, settings.topics.namespace, "interactions", columns=("event_id",)).arrow
    return [str(event_id) for event_id in table["event_id"].to_pylist()]


def _event_ids(settings: Settings, topic: str) -> list[str]:
    found = (_event_id(record.value) for record in records(settings.kafka, topic))
    return [event_id for event_id in found if event_id is not None]


def _event_id(value: bytes) -> str | None:
    """Return a record's event id, None for poison."""
    try:
        record = json.loads(value)
    except ValueError:
        return None
    event_id = record.get("event_id") if isinstance(record, dict) else None
    return event_id if isinstance(event_id, str) else None
