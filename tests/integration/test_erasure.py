"""Erasing a user for real: two tenants with equal ids on one broker, one store and one catalogue."""

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from kafka import KafkaProducer
from pyspark.sql import SparkSession
from redis import Redis
from topic_records import records

from features.accounting import audit
from features.config import StoreSettings, store_url
from features.history import History, event_of
from features.lake import EXAMPLES, LANDED, LANDINGS, USER_FEATURES, table_name
from features.landing import Lander, LandingRun, land
from features.online import SyncOnlineReader
from features.project import feast_project
from features.slate_records import Kept, SlateRecord, SlateRecords, encode_record
from features.snapshots import current_snapshot_id
from features.spark import build_session
from features.store import FeatureStore
from features.updater import HistoryUpdater
from models.config import artifacts_url
from models.registry import Registry
from services.config import Settings
from services.erasure.erase import Eraser
from services.erasure.receipt import ReceiptInvalid, SignedReceipt, public_key, verify
from services.erasure.search import Searched, search
from streaming.config import KafkaSettings, client_options
from streaming.consumer import Received
from streaming.events import (
    ErasureEntered,
    Event,
    IdentityLinked,
    Impression,
    Interaction,
    ItemUpserted,
    Kind,
    LoggedState,
    SlateItem,
    UserErased,
    UserUpserted,
)
from streaming.ids import UserId
from streaming.ledger import LedgerReader
from streaming.namespace import Namespace, parse_namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics

pytestmark = pytest.mark.timeout(900)

USER, OTHER, RETURNING = UserId("Zoë/erase-me-7"), UserId("somebody-else"), UserId("comes-and-goes")
SESSION = "guest-session-of-zoe"
NOW = time.time_ns() // 1_000_000 - 60_000


def envelope(event_id: str) -> dict[str, object]:
    return {"event_id": event_id, "happened_at": NOW, "received_at": NOW, "producer": "test"}


def click(number: int, user: str | None, session: str | None = None) -> Interaction:
    return Interaction(**envelope(f"c{number}"), item_id="i1", kind=Kind.CLICK, user_id=user, session_id=session)


def slate(request_id: str, user: str | None, session: str | None = None) -> Impression:
    return Impression(
        **envelope(request_id),
        surface="home",
        variant="a",
        slate=[SlateItem(item_id="i1", position=0, score=0.5, propensity=0.5, source="popular")],
        seed=7,
        user_id=user,
        session_id=session,
        user_state=LoggedState(history=["i1"], features={}),
    )


EVENTS: list[Event] = [
    ItemUpserted(**envelope("i"), item_id="i1", title="One"),
    *(click(number, user) for number, user in enumerate([USER, USER, OTHER, RETURNING])),
    click(4, None, SESSION),
    click(5, None, "another guest"),
    slate("q0", USER),
    slate("q1", None, SESSION),
    slate("q2", OTHER),
    *(UserUpserted(**envelope(f"u-{user}"), user_id=user, attributes={"name": user}) for user in (USER, OTHER)),
    IdentityLinked(**envelope("l0"), session_id=SESSION, user_id=USER),
    IdentityLinked(**envelope("l1"), session_id="another guest", user_id=OTHER),
]
POISON = b'{"type":"interaction","user_id":"' + USER.encode() + b'"}'


@dataclass(frozen=True)
class Tenant:
    """One namespace with everything in it."""

    settings: Settings
    spark: SparkSession

    @property
    def namespace(self) -> Namespace:
        return self.settings.topics.namespace

    @property
    def lander(self) -> Lander:
        lake = self.settings.lake.under(self.settings.home)
        return Lander(self.spark, self.settings.kafka, lake, self.settings.store, self.settings.topics, lambda: NOW)

    def publish(self, *events: Event) -> int:
        """Publish events and return the append time of the last."""
        with closing(EventProducer(self.settings.kafka, self.settings.topics)) as producer:
            futures = [producer.send(event) for event in events]
            producer.flush()
            return int(futures[-1].get(timeout=30).timestamp)

    def land(self) -> LandingRun:
        return land(self.lander, available_now=True)

    def ids(self, table: str, column: str = "event_id") -> list[str]:
        return sorted(row[0] for row in self.spark.table(f"lake.{self.namespace}.{table}").select(column).collect())

    def problems(self) -> list[str]:
        accounting = audit(self.spark, self.settings.kafka, self.settings.topics)
        return [problem for part in accounting.partitions for problem in part.problems]

    def checkpoint(self) -> Path:
        return self.settings.home / "lake" / "checkpoints" / self.namespace

    def search(self, user: UserId = USER) -> dict[str, Searched]:
        return {found.store.removeprefix(f"topic {self.namespace}."): found for found in search(self.settings, user)}

    def everything(self) -> dict[str, str]:
        """Return a digest of every byte of the namespace: files of the lake, records of topics, keys of the store."""
        warehouse = self.settings.home / "lake" / "warehouse" / self.namespace
        state = {str(path): digest(path.read_bytes()) for path in warehouse.rglob("*") if path.is_file()}
        topics = self.settings.topics
        for topic in (*topics.landed, topics.erasures):
            parts = [(r.partition, r.offset, r.timestamp, r.key, r.value) for r in records(self.settings.kafka, topic)]
            state[topic] = digest(repr(sorted(parts, key=str)).encode())
        client = Redis.from_url(store_url(self.settings.store))
        mine = feast_project(self.namespace).encode(), f"flywheel:{self.namespace}:".encode()
        for key in client.scan_iter():
            if key.endswith(mine[0]) or key.startswith(mine[1]):
                state[repr(key)] = digest(client.dump(key))
        client.close()
        return state


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fill(tenant: Tenant) -> None:
    """Put the events into the log, the lake, derived tables and the online store."""
    settings, spark = tenant.settings, tenant.spark
    ensure_topics(settings.kafka, settings.topics)
    tenant.publish(*EVENTS)
    with closing(KafkaProducer(**client_options(settings.kafka))) as producer:
        producer.send(settings.topics.interactions, POISON, key=USER.encode()).get(timeout=30)
    tenant.land()
    moment = datetime.fromtimestamp(NOW / 1000, UTC)
    for table in (USER_FEATURES, EXAMPLES):
        rows = [
            dict.fromkeys(table.columns.names) | {"user_id": user, "event_timestamp": moment} for user in (USER, OTHER)
        ]
        spark.createDataFrame(rows, table.columns).writeTo(table_name(tenant.namespace, table)).append()
    features = FeatureStore(settings.store, tenant.namespace)
    features.apply()
    clicks = [event for event in EVENTS if isinstance(event, Interaction)]
    with (
        closing(SyncOnlineReader(settings.store, tenant.namespace)) as reader,
        closing(LedgerReader(settings.kafka, settings.topics)) as ledger,
    ):
        received = [Received(event, b"", "t", 0, offset, NOW) for offset, event in enumerate(clicks)]
        HistoryUpdater(reader, features, ledger, 100).update(received)
    with closing(SlateRecords(settings.store, tenant.namespace)) as slates:
        history = History(tuple(event_of(event) for event in clicks[:2]))
        shown = [(event, SlateRecord.of(event, history)) for event in EVENTS if isinstance(event, Impression)]
        until = time.time_ns() // 1_000_000 + 3_600_000
        slates.write([(Kept.of(event, until), encode_record(record)) for event, record in shown], [], NOW)


@pytest.fixture(scope="module")
def tenants(
    broker: KafkaSettings, valkey: StoreSettings, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Tenant, Tenant]]:
    home = tmp_path_factory.mktemp("erasure")
    number = time.time_ns() % 10**14
    # The second name ends like the first one, where a pattern of keys would match.
    names = [parse_namespace(f"a{number}"), parse_namespace(f"xa{number}")]
    settings = [Settings(namespace=name, home=home, kafka=broker, store=valkey.under(home)) for name in names]
    if (before := SparkSession.getActiveSession()) is not None:
        before.stop()  # another test's, on another lake
    spark = build_session(settings[0].lake.under(home), names[0], cache)
    one, other = (Tenant(each, spark) for each in settings)
    for tenant in (one, other):
        fill(tenant)
    yield one, other
    spark.stop()


@pytest.fixture(scope="module")
def erased(
    tenants: tuple[Tenant, Tenant], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SignedReceipt, Path, dict[str, str], dict[str, Searched]]:
    """The receipt of the user's erasure in the first namespace; what the second held and the search found before."""
    one, other = tenants
    found = one.search()
    name = table_name(one.namespace, EXAMPLES)
    one.spark.sql(f"ALTER TABLE {name} CREATE TAG champion")
    lake = one.settings.lake.under(one.settings.home)
    artifact = tmp_path_factory.mktemp("artifact")
    for version, table in (("touched", "examples"), ("untouched", "items")):
        snapshots = {table: current_snapshot_id(lake, one.namespace, table)}
        lineage = {"snapshots": snapshots, "seed": 7, "code_version": "1"}
        (artifact / "spec.json").write_bytes(msgspec.json.encode({"lineage": lineage}))
        registry(one).add(artifact, version)
    before = other.everything()
    signed, path = Eraser(one.settings, one.spark).erase(USER)
    return signed, path, before, found


def registry(tenant: Tenant) -> Registry:
    settings = tenant.settings
    return Registry(artifacts_url(settings.model.under(settings.home)), tenant.namespace)


def test_the_search_finds_a_user_in_every_store_before_the_erasure(erased):
    found = erased[3]
    assert {store for store, one in found.items() if one.verdict == "FOUND"} == {
        "interactions", "interactions.dlq", "impressions", "identities", "users", "online store", "lake",
    }  # fmt: skip


def test_an_erased_user_is_gone_or_gone_by_a_date_and_nobody_else_is_touched(tenants, erased):
    one, _ = tenants
    found = one.search()
    assert {store for store, each in found.items() if each.verdict == "FOUND"} == set(), found
    dated = {store: each.gone_by for store, each in found.items() if each.verdict == "gone by"}
    assert set(dated) == {"interactions", "interactions.dlq", "impressions", "identities", "users"}
    hours = one.settings.kafka.retention_hours + 24 + 1
    promised = next(
        s.gone_by for s in erased[0].receipt.stores if s.store == f"topic {one.settings.topics.interactions}"
    )
    assert dated["interactions"][:19] <= promised[:19]
    cut = datetime.fromisoformat(erased[0].receipt.cut)
    assert (datetime.fromisoformat(promised) - cut).total_seconds() == hours * 3_600

    assert one.ids("interactions") == ["c2", "c3", "c5"]  # the guest's click went with the user it was linked to
    assert one.ids("impressions") == ["q2"]
    assert one.ids("users", "user_id") == [OTHER]
    assert one.ids("identities") == ["l1"]
    for table in ("user_features", "examples"):
        assert one.ids(table, "user_id") == [OTHER]
    with closing(SyncOnlineReader(one.settings.store, one.namespace)) as reader:
        gone, kept = reader.user_states([USER, OTHER])
    assert (gone.history.items, kept.history.items) == ([], ["i1"])
    [landing] = one.land().landings  # of the request itself and the null record behind it
    assert (landing.records, landing.erased, landing.tombstones) == (2, 1, 1)
    assert one.problems() == []


def test_the_other_tenant_keeps_every_byte(tenants, erased):
    _, other = tenants
    assert other.everything() == erased[2]
    assert other.ids("interactions") == [f"c{number}" for number in range(6)]
    assert other.problems() == []


def test_the_receipt_counts_every_store_names_nobody_and_cannot_be_changed(tenants, erased):
    one, other = tenants
    signed, path, *_ = erased
    removed = {entry.store: entry.removed for entry in signed.receipt.stores}
    rows = {"interactions": 3, "impressions": 2, "users": 1, "identities": 1, "user_features": 1, "examples": 1}
    assert {name: count for name, count in removed["lake"].items() if name != "files"} == rows
    assert removed["online store"] == {"users": 1, "slates": 2}
    assert signed.receipt.sessions == 1
    assert registry(one).training_set_gone_since("touched") is not None
    assert registry(one).training_set_gone_since("untouched") is None
    assert "examples: champion" in next(entry.note for entry in signed.receipt.stores if entry.store == "lake")

    data, key = path.read_bytes(), public_key(one.settings.kafka, one.namespace)
    assert USER not in data.decode()
    assert SESSION not in data.decode()
    assert verify(data, key) == signed.receipt
    with pytest.raises(ReceiptInvalid, match="changed"):
        verify(data.replace(b'"interactions": 3', b'"interactions": 4'), key)
    with pytest.raises(ReceiptInvalid, match="another key"):
        verify(data, public_key(other.settings.kafka, other.namespace))
    with pytest.raises(ReceiptInvalid, match="no receipt"):
        verify(b"{}", key)


def test_a_replay_of_the_whole_log_does_not_bring_the_user_back(tenants, erased):
    one, _ = tenants
    before = {table.name: one.ids(table.name) for table in LANDED}
    shutil.rmtree(one.checkpoint())
    one.spark.sql(f"DELETE FROM {table_name(one.namespace, LANDINGS)}")  # noqa: S608 - own names
    again = one.land()
    assert sum(landing.records for landing in again.landings) > len(EVENTS)
    assert {table.name: one.ids(table.name) for table in LANDED} == before
    assert one.problems() == []
    assert {each.verdict for each in one.search().values()} == {"gone", "gone by"}


def test_a_crash_between_the_commits_a_pending_erasure_and_expiry_leave_no_trace_and_no_duplicate(tenants, erased):
    one, _ = tenants
    newest = one.publish(click(10, RETURNING), click(11, OTHER))
    one.land()
    commits = sorted((one.checkpoint() / "commits").glob("[0-9]*"), key=lambda path: int(path.name))
    for stale in (commits[-1], commits[-1].with_name(f".{commits[-1].name}.crc")):
        stale.unlink(missing_ok=True)  # what a kill right after the lake's commit leaves behind
    # As the collector's DELETE /v1/users/{id} does: the request and the entry, nothing else.
    with closing(LedgerReader(one.settings.kafka, one.settings.topics)) as reader:
        mark = reader.ledger.marker.mark(RETURNING)
    one.publish(UserErased(**envelope("x"), user_id=RETURNING), ErasureEntered(**envelope("y"), mark=mark))
    [(signed, _)] = Eraser(one.settings, one.spark).erase_pending()
    assert signed.receipt.mark == mark
    assert newest <= datetime.fromisoformat(signed.receipt.cut).timestamp() * 1000
    assert list(Eraser(one.settings, one.spark).erase_pending()) == []

    one.land()  # the batch that was committed to the lake, once more
    assert one.ids("interactions") == ["c11", "c2", "c5"]
    assert one.problems() == []
    assert {each.verdict for each in one.search(RETURNING).values()} == {"gone", "gone by"}


def test_a_session_that_only_what_has_not_landed_links_to_the_user_goes_too(tenants, erased):
    one, _ = tenants
    one.publish(click(30, None, "late guest"))
    one.land()
    assert "c30" in one.ids("interactions")
    one.publish(click(31, "late user", "late guest"))

    signed, _ = Eraser(one.settings, one.spark).erase(UserId("late user"))

    assert signed.receipt.sessions == 1
    one.land()
    assert one.ids("interactions") == ["c11", "c2", "c5"]
    assert one.problems() == []


def test_who_comes_back_under_the_same_id_is_a_new_user(tenants, erased):
    one, _ = tenants
    now = time.time_ns() // 1_000_000
    one.publish(msgspec.structs.replace(click(20, USER), happened_at=now, received_at=now))
    one.land()
    assert one.ids("interactions") == ["c11", "c2", "c20", "c5"]
    assert one.search()["lake"].verdict == "FOUND"
    assert one.problems() == []
