"""Runs the commands in two namespaces with equal ids on one broker, one store and one catalogue; writes what they said.

A process of its own, as Spark has one session each. Every command runs in one namespace and then in the other.
"""

import faulthandler
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from environ import without_settings
from kafka import KafkaProducer
from pydantic import SecretStr
from redis import Redis
from topic_records import records
from typer.testing import CliRunner
from waiting import wait_until

from features.config import StoreSettings, store_url
from features.project import feast_project
from features.snapshots import open_catalog
from features.updater import group_of
from models.before_torch import set_up_torch
from models.config import ModelSettings, RankingSettings, RetrievalSettings
from services.cli import app
from services.config import Settings
from services.environment import settings_environ
from streaming.config import KafkaSettings, client_options
from streaming.events import Impression, LoggedState, SlateItem
from streaming.lag import lag
from streaming.producer import EventProducer

SEED, USERS, ITEMS, ERASED = 7, 30, 40, "user-7"
_DAY_MS = 86_400_000
_NO_JSON = ("add-key", "drain-spool")


@dataclass
class Tenant:
    """A namespace, how many events each of its users has, and what its commands have said."""

    settings: Settings
    of_user: int
    said: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.settings.namespace

    @property
    def files(self) -> Path:
        """Where files go that are no part of the system, as users would find themselves in them."""
        return self.settings.home.parent

    def run(self, name: str, *arguments: str, expected: int = 0) -> Any:
        """Run a command; AssertionError when it ends with another code than `expected`."""
        for known in [known for known in os.environ if known.startswith("FLYWHEEL_")]:
            del os.environ[known]
        os.environ.update(settings_environ(self.settings))
        began = time.monotonic()
        done = CliRunner().invoke(app, [*name.split(), *arguments, *(() if name in _NO_JSON else ("--json",))])
        if done.exit_code != expected:
            raise AssertionError(f"{name} {arguments} ended with {done.exit_code}: {done.output}") from done.exception
        print(f"{time.monotonic() - began:.1f} s {self.name} {name}", flush=True)  # noqa: T201 - where time goes
        said = done.stdout if name in _NO_JSON else json.loads(done.stdout)
        self.said.setdefault(name, []).append(said)
        return said

    def everything(self) -> dict[str, str]:
        """Return a digest of every byte of the namespace: files, records of topics, keys of the store."""
        files = (path for path in self.settings.home.rglob("*") if path.is_file() and self.name in path.parts)
        state = {str(path): _digest(path.read_bytes()) for path in files}
        topics = self.settings.topics
        for topic in (*topics.landed, topics.erasures, topics.models, topics.acknowledgements):
            parts = [(r.partition, r.offset, r.timestamp, r.key, r.value) for r in records(self.settings.kafka, topic)]
            state[topic] = _digest(repr(sorted(parts, key=str)).encode())
        mine = feast_project(self.settings.topics.namespace).encode(), f"flywheel:{self.name}:".encode()
        with closing(Redis.from_url(store_url(self.settings.store))) as client:
            for key in client.scan_iter():
                if key.endswith(mine[0]) or key.startswith(mine[1]):
                    state[repr(key)] = _digest(client.dump(key))
        return state


def main(bootstrap_servers: str, erasure_key: str, redis_url: str, folder: Path) -> None:
    """Run everything; the report is `tenants.json` in `folder`, where the home of both is."""
    home = folder / "home"
    home.mkdir()
    set_up_torch(os.environ)
    faulthandler.dump_traceback_later(540, exit=True)  # a hang names its place
    kafka = KafkaSettings(bootstrap_servers=bootstrap_servers, erasure_key=SecretStr(erasure_key))
    store = StoreSettings(redis_url=SecretStr(redis_url))
    quick = ModelSettings(
        retrieval=RetrievalSettings(epochs=1, refit_epochs=1, dim=16), ranking=RankingSettings(epochs=1)
    )
    number = time.time_ns() % 10**14
    # The second name ends like the first one, where a pattern of keys or topics would match.
    tenants = [
        Tenant(Settings(namespace=name, home=home, kafka=kafka, store=store, model=quick), of_user)
        for name, of_user in ((f"a{number}", 9), (f"xa{number}", 8))
    ]
    for tenant in tenants:
        serving = tenant.settings.serving.model_copy(update={"api_keys_file": home / "keys.json"})
        tenant.settings = tenant.settings.model_copy(update={"serving": serving})
    now = time.time_ns() // 1_000_000
    _fill(tenants, now)
    _learn(tenants, now)
    _keep(tenants)
    one, other = tenants
    before = other.everything()
    one.run("erase", ERASED)
    changed = sorted(name for name, digest in other.everything().items() ^ before.items())
    one.run("erase --verify", ERASED)
    other.run("erase --verify", ERASED, expected=1)
    for tenant in tenants:
        _lose_and_restore(tenant)
    report = {
        "changed_by_the_erasure_of_the_other": changed,
        "tenants": {tenant.name: {"of_user": tenant.of_user, "said": tenant.said} for tenant in tenants},
    }
    (folder / "tenants.json").write_text(json.dumps(report))


def _fill(tenants: Sequence[Tenant], now: int) -> None:
    for tenant in tenants:
        tenant.run("topics")
    for tenant in tenants:
        file = tenant.files / f"{tenant.of_user}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in _rows(tenant.of_user, now)))
        tenant.run("import", str(file))
        _send_beside(tenant, now)
    _update_histories(tenants)
    for command in ("land --available-now", "audit", "dlq list", "dlq replay", "build-features", "materialise"):
        for tenant in tenants:
            tenant.run(command)


def _rows(of_user: int, now: int) -> Iterator[dict[str, Any]]:
    """Yield items, and interactions of six days; the ids are the same whatever `of_user` is."""
    rng = random.Random(SEED + of_user)  # noqa: S311 - equal ids, other choices
    for item in range(ITEMS):
        row = {"item_id": f"item-{item}", "title": f"Item {item}", "categories": [f"c{item % 4}"]}
        yield row | {"happened_at": now - 7 * _DAY_MS}
    for user in range(USERS):
        for number, item in enumerate(rng.sample(range(ITEMS), of_user)):
            at = now - 7 * _DAY_MS + (number * USERS + user) * 4 * 3_600_000 % (6 * _DAY_MS)
            row = {"user_id": f"user-{user}", "item_id": f"item-{item}", "kind": "click", "happened_at": at}
            yield row | {"event_id": f"e-{user}-{number}"}


def _send_beside(tenant: Tenant, now: int) -> None:
    """Publish a slate, and a record that does not decode as many times as each user has events."""
    kafka, topics = tenant.settings.kafka, tenant.settings.topics
    shown = Impression(
        event_id="request",
        happened_at=now,
        received_at=now,
        producer="test",
        surface="home",
        variant=tenant.name,
        slate=[SlateItem(item_id="item-1", position=0, score=0.5, propensity=0.5, source="popular")],
        seed=SEED,
        user_id=ERASED,
        user_state=LoggedState(history=["item-1"], features={}),
    )
    with closing(EventProducer(kafka, topics)) as producer:
        producer.publish([shown])
    with closing(KafkaProducer(**client_options(kafka))) as raw:
        for _ in range(tenant.of_user):
            raw.send(topics.interactions, b"{}", key=b"poison").get(timeout=30)


def _update_histories(tenants: Sequence[Tenant]) -> None:
    """Run the updaters of both side by side until they have read everything."""
    updaters = [
        subprocess.Popen(
            [sys.executable, "-m", "services.cli", "update-history"],
            env={**without_settings(), **settings_environ(tenant.settings)},
        )
        for tenant in tenants
    ]
    try:
        for tenant in tenants:
            kafka, topics = tenant.settings.kafka, tenant.settings.topics
            wait_until(lambda: lag(kafka, topics.interactions, group_of(topics.namespace)) == 0, 120)  # noqa: B023
            tenant.said["update-history"] = []
    finally:
        for updater in updaters:
            updater.terminate()
        for updater in updaters:
            updater.wait(60)


def _learn(tenants: Sequence[Tenant], now: int) -> None:
    cut = datetime.fromtimestamp((now - 2 * _DAY_MS) / 1000, UTC).isoformat()
    for tenant in tenants:
        tenant.run("train", "--until", cut)
    for tenant in tenants:
        [[trained]] = tenant.said["train"]
        for _ in range(2):
            tenant.run("promote", trained["version"], "--force", "--reason", f"of {tenant.name}")
        tenant.run("evaluate", trained["version"], "--since", cut)
        tenant.run("rollback", "--reason", f"of {tenant.name}")
        tenant.run("models")


def _keep(tenants: Sequence[Tenant]) -> None:
    for tenant in tenants:
        tenant.run("export", "interactions", str(tenant.files / f"{tenant.of_user}.out.jsonl"))
        tenant.run("explain", "request")
        tenant.run("skew", "--hours", "1")
        tenant.run("add-key", "shop", "--scope", "recommend")
        tenant.run("drain-spool")
    for command in ("rebuild online", "rebuild catalogue", "land --available-now", "maintain"):
        for tenant in tenants:
            tenant.run(command)
    for tenant in tenants:
        tenant.run("migrate", "--dry-run")
        tenant.run("backup", str(tenant.files / "backup" / tenant.name))
        tenant.run("doctor", expected=1)  # this broker keeps one copy of a record


def _lose_and_restore(tenant: Tenant) -> None:
    lake = tenant.settings.lake.under(tenant.settings.home)
    catalog = open_catalog(lake)
    for identifier in catalog.list_tables(tenant.name):
        catalog.drop_table(identifier)
    tenant.run("restore", str(tenant.files / "backup" / tenant.name))
    tenant.run("land --available-now")
    tenant.run("audit")
    tenant.run("export", "interactions", str(tenant.files / f"{tenant.of_user}.restored.jsonl"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


if __name__ == "__main__":
    main(*sys.argv[1:4], Path(sys.argv[4]))
