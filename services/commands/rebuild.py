"""`flywheel rebuild`: what is derived, made again from the lake."""

import os
import time
from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from services.commands.common import AsJson, moment, need_lake, show

if TYPE_CHECKING:
    from features.config import LakeSettings, StoreSettings
    from services.config import Settings
    from streaming.namespace import Namespace


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
    from features.spark import build_session
    from features.store import FeatureStore
    from features.updater import HistoryUpdater
    from streaming.embedded.java import user_cache
    from streaming.ledger import LedgerReader

    lake, store, namespace = _places(settings)
    features = FeatureStore(store, namespace)
    features.apply()
    with (
        closing(LedgerReader(settings.kafka, settings.topics)) as erasures,
        closing(SyncOnlineReader(store, namespace)) as reader,
    ):
        erasures.refresh()
        updater = HistoryUpdater(reader, features, erasures, store.history_length)
        read = rebuild_histories(lake, settings.kafka, settings.topics, updater)
    spark = build_session(lake, namespace, user_cache(os.environ))
    return {"interactions read": read} | features.materialise(spark, moment(None))


def _catalogue(settings: "Settings") -> dict[str, int]:
    from features.rebuilding import rebuild_catalogue
    from streaming.producer import EventProducer
    from streaming.topics import ensure_topics

    lake, _, _ = _places(settings)
    ensure_topics(settings.kafka, settings.topics)
    with closing(EventProducer(settings.kafka, settings.topics)) as producer:
        return {"items published": rebuild_catalogue(lake, settings.kafka, settings.topics, producer)}


def _features(settings: "Settings") -> dict[str, int]:
    from features.labels import ExampleSpec
    from features.spark import build_session
    from features.store import FeatureStore
    from features.training_set import build_features, build_training_set
    from streaming.embedded.java import user_cache

    lake, store, namespace = _places(settings)
    now = moment(None)
    spark = build_session(lake, namespace, user_cache(os.environ))
    features = FeatureStore(store, namespace)
    features.apply()
    written = build_features(spark, namespace, now)
    written["examples"] = build_training_set(spark, namespace, features, ExampleSpec(), now)
    return {name: table.rows for name, table in written.items()}


def _places(settings: "Settings") -> "tuple[LakeSettings, StoreSettings, Namespace]":
    return settings.lake.under(settings.home), settings.store.under(settings.home), settings.topics.namespace
