"""Works on a lake in PostgreSQL and an object store, and writes what it saw: a process of its own, with its own Spark.

The settings come from the environment, as a person would set them.
"""

import faulthandler
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from features.accounting import audit
from features.commits import retried
from features.lake import INTERACTIONS, table_name
from features.landing import Lander, land
from features.maintenance import maintain_table
from features.snapshots import current_snapshot_id, read_table
from features.spark import build_session
from features.training_set import build_features
from services.config import load_settings
from services.doctor.stores import check_lake
from services.erasure.erase import Eraser
from services.erasure.search import search
from streaming.embedded.java import user_cache
from streaming.events import Interaction, Kind
from streaming.ids import UserId
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics

NOW = 1_790_000_000_000
USERS = 4
ROUNDS = 2


def user(number: int) -> UserId:
    """One of the users."""
    return UserId(f"of-the-objects-{number % USERS}")


def acts(first: int, count: int) -> list[Interaction]:
    """Clicks `e<number>` of the users in turn."""
    return [
        Interaction(
            event_id=f"e{number}",
            happened_at=NOW + number,
            received_at=NOW,
            producer="test",
            item_id=f"i{number % 7}",
            user_id=user(number),
            kind=Kind.CLICK,
        )
        for number in range(first, first + count)
    ]


class Work:
    """The lake under test."""

    def __init__(self) -> None:
        self.settings = settings = load_settings()
        self.lake = settings.lake.under(settings.home)
        self.namespace = settings.topics.namespace
        self.spark = build_session(self.lake, self.namespace, user_cache(os.environ))
        self.lander = Lander(self.spark, settings.kafka, self.lake, settings.store, settings.topics, clock=lambda: NOW)
        ensure_topics(settings.kafka, settings.topics)
        self.producer = EventProducer(settings.kafka, settings.topics)
        self.name = table_name(self.namespace, INTERACTIONS)

    def land(self, first: int, count: int) -> int:
        """Publish some acts, the last one twice, land them, and return how many rows were inserted."""
        events = acts(first, count)
        self.producer.publish([*events, events[-1]])
        return sum(landing.inserted for landing in land(self.lander, available_now=True).landings)

    def ids(self, snapshot_id: int | None = None) -> list[str]:
        """Read the event ids without Spark."""
        found = read_table(self.lake, self.namespace, "interactions", snapshot_id=snapshot_id, columns=("event_id",))
        return sorted(found.arrow["event_id"].to_pylist())

    def lose_checkpoint(self) -> None:
        """Delete what Spark keeps of its own."""
        shutil.rmtree(Path(urlsplit(str(self.lake.checkpoints)).path) / self.namespace)

    def delete(self, user: str) -> None:
        """Erase a user's rows."""
        retried(lambda: self.spark.sql(f"DELETE FROM {self.name} WHERE user_id = '{user}'"))  # noqa: S608 - own names only

    def at_once(self) -> list[str]:
        """Land, delete, build features and maintain at the same time; returns what failed."""
        together = threading.Barrier(4)

        def repeated(work: Callable[[int], Any]) -> None:
            together.wait()
            for number in range(ROUNDS):
                work(number)

        as_of = datetime.fromtimestamp(NOW / 1000 + 2 * 86_400, UTC)
        works: list[Callable[[int], Any]] = [
            lambda number: self.land(1000 + 100 * number, 20),
            lambda number: self.delete(user(number % 2)),
            lambda _: build_features(self.spark, self.namespace, as_of),
            lambda _: maintain_table(self.spark, self.name, 20),
        ]
        with ThreadPoolExecutor(len(works)) as pool:
            failures = [future.exception() for future in [pool.submit(repeated, work) for work in works]]
        return [repr(failure) for failure in failures if failure is not None]


def main(report: Path) -> None:
    """Do everything once, and say how long each step took."""
    faulthandler.dump_traceback_later(440, exit=True)  # a hang names its place
    began = time.monotonic()
    seen: dict[str, Any] = {}

    def saw(name: str, value: Any) -> None:
        seen[name] = value
        sys.stderr.write(f"{name}: after {time.monotonic() - began:.1f} s\n")

    work = Work()
    saw("landed", work.land(0, 40))
    first = current_snapshot_id(work.lake, work.namespace, "interactions")
    saw("landed_from_checkpoint", work.land(40, 20))
    work.lose_checkpoint()
    saw("landed_without_checkpoint", work.land(60, 20))
    saw("first_snapshot", work.ids(first))
    saw("ids", work.ids())
    saw("problems", audit(work.spark, work.lander.kafka, work.lander.topics).rows())
    saw("failures", work.at_once())
    for number in range(2):
        work.delete(user(number))  # what landed beside the deletes
    saw("after", work.ids())
    maintain_table(work.spark, work.name, 1)
    saw("maintained", work.ids())
    saw("files", work.spark.table(f"{work.name}.files").count())
    saw("snapshots", work.spark.table(f"{work.name}.snapshots").count())
    saw("searched_before", {one.store: one.verdict for one in search(work.settings, user(2))})
    signed, _ = Eraser(work.settings, work.spark).erase(user(2))
    saw("receipt", {entry.store: entry.removed for entry in signed.receipt.stores})
    saw("after_erasure", work.ids())
    saw("searched", {one.store: one.verdict for one in search(work.settings, user(2))})
    saw("doctor", [msgspec.to_builtins(check) for check in check_lake(work.lake, os.environ)])
    report.write_bytes(msgspec.json.encode(seen))
    work.producer.close()
    work.spark.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
