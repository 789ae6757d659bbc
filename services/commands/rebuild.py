"""`flywheel rebuild`: what is derived, made again from the lake."""

import time
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from services.commands.common import AsJson, lake_session, moment, need_lake, show

if TYPE_CHECKING:
    from services.config import Settings


class Derived(StrEnum):
    """What can be rebuilt."""

    ONLINE = "online"
    CATALOGUE = "catalogue"
    FEATURES = "features"


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command("rebuild")(rebuild)


def rebuild(what: Derived, as_json: AsJson = False) -> None:
    """Make the online store, the catalogue's topic or the feature tables again from the lake, beside the services."""
    from services.config import load_settings

    settings = load_settings()
    need_lake(settings)
    began = time.monotonic()
    rows = {Derived.ONLINE: _online, Derived.CATALOGUE: _catalogue, Derived.FEATURES: _features}[what](settings)
    show(
        f"Rebuilt in {time.monotonic() - began:.0f} s", [{"part": part, "rows": n} for part, n in rows.items()], as_json
    )


def _online(settings: "Settings") -> dict[str, int]:
    from features.online import SyncOnlineReader
    from features.rebuilding import rebuild_histories
    from features.updater import HistoryUpdater
    from services.derived import applied_store, materialise
    from streaming.ledger import LedgerReader

    store, namespace = settings.store.under(settings.home), settings.topics.namespace
    features = applied_store(settings)
    with (
        closing(LedgerReader(settings.kafka, settings.topics)) as erasures,
        closing(SyncOnlineReader(store, namespace)) as reader,
    ):
        erasures.refresh()
        updater = HistoryUpdater(reader, features, erasures, store.history_length)
        read = rebuild_histories(settings.lake.under(settings.home), settings.kafka, settings.topics, updater)
    return {"interactions read": read} | materialise(settings, lake_session(settings), features, moment(None))


def _catalogue(settings: "Settings") -> dict[str, int]:
    from features.rebuilding import rebuild_catalogue
    from streaming.producer import EventProducer
    from streaming.topic_creation import ensure_topics

    lake = settings.lake.under(settings.home)
    ensure_topics(settings.kafka, settings.topics)
    with closing(EventProducer(settings.kafka, settings.topics)) as producer:
        return {"items published": rebuild_catalogue(lake, settings.kafka, settings.topics, producer)}


def _features(settings: "Settings") -> dict[str, int]:
    from services.derived import applied_store, write_features

    written = write_features(settings, lake_session(settings), applied_store(settings), moment(None))
    return {name: table.rows for name, table in written.items()}
