"""The only caller of Feast: definitions, point-in-time join, materialisation, history writes."""

import importlib
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pandas as pd
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.config import StoreSettings, require, store_url
from features.history import History, encode_history
from features.lake import ITEM_FEATURES, ITEM_RECENT, USER_FEATURES, Table, table_name
from features.project import HISTORY, ITEM, ITEM_VIEW, RECENT_VIEW, USER, USER_VIEW, WRITTEN_AT, View, feast_project
from streaming.ids import UserId
from streaming.namespace import Namespace

BY_USER, BY_ITEM = (USER_VIEW, USER), (ITEM_VIEW, ITEM)
"""The views that join to examples, each with the column that names its entity."""

_STAMP = "event_timestamp"
_BROADCAST_ROWS = 200_000
_import_lock = threading.Lock()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Leave out Feast's reminders that its Spark store is young: it is pinned, and contract tests watch it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


class FeatureStore:
    """A namespace's features in Feast. Feast is imported when the first store is made, which takes seconds."""

    def __init__(self, store: StoreSettings, namespace: Namespace) -> None:
        self._namespace = namespace
        self._settings = store
        self._registry = registry_file(require(store.registry, "store.registry"), namespace)
        self._feast = self._connect(skip_dedup=False)

    @_without_warnings()
    def apply(self) -> None:
        """Register the entities and views; doing so again changes nothing."""
        definitions = importlib.import_module("features.definitions")
        self._feast.apply(definitions.definitions(self._namespace, self._settings.feature_max_age_days))

    @_without_warnings()
    def is_applied(self) -> bool:
        """Return whether the views are registered."""
        return {view.name for view in self._feast.list_feature_views()} >= {
            HISTORY.name,
            USER_VIEW.name,
            ITEM_VIEW.name,
            RECENT_VIEW.name,
        }

    @_without_warnings()
    def point_in_time_join(
        self, examples: DataFrame, views: Sequence[tuple[View, str]] = (BY_USER, BY_ITEM)
    ) -> DataFrame:
        """Return `examples` (user_id, item_id, event_timestamp, …) with the features of `views` as of their time.

        A feature row joins when its timestamp is not later than the example's. Feast is asked once per view for the
        distinct entities and times, which are far fewer than the examples.
        """
        spark = examples.sparkSession
        # Feast takes pyspark's active session, and a streaming batch leaves a copy of ours active: this sets it back.
        spark.createDataFrame([], "nothing int")
        if examples.isEmpty():  # of which Feast does not let itself be asked
            types = {field.name: field.dataType for field in (*USER_FEATURES.columns, *ITEM_FEATURES.columns)}
            features = [feature for view, _ in views for feature in view.features]
            return examples.withColumns({feature: F.lit(None).cast(types[feature]) for feature in features})
        joined = examples
        for view, key in views:
            asked = examples.select(key, _STAMP).distinct().localCheckpoint()  # Feast's query reads it four times
            asked.createOrReplaceTempView(f"{view.name}_asked")
            job = self._feast.get_historical_features(
                entity_df=f"SELECT {key}, {_STAMP} FROM {view.name}_asked",  # noqa: S608 - own names only
                features=[f"{view.name}:{feature}" for feature in view.features],
            )
            found = job.to_spark_df().localCheckpoint()
            small = found.count() <= _BROADCAST_ROWS
            joined = joined.join(F.broadcast(found) if small else found, [key, _STAMP], "left")
        # Feast leaves quoted names to mean regular expressions.
        spark.conf.unset("spark.sql.parser.quotedRegexColumnNames")
        return joined

    @_without_warnings()
    def materialise(self, spark: SparkSession, as_of: datetime) -> dict[str, int]:
        """Write every entity's newest feature row up to `as_of` into the online store; returns rows by view.

        Feast's Spark engine would start Python workers that each import Feast, which takes seconds; the rows are
        one per entity, so the driver writes them through Feast. They replace what is stored whatever its timestamp,
        since late events change the row of a day that was written before.
        """
        writer = self._connect(skip_dedup=True)
        views = ((USER_VIEW, USER_FEATURES, USER), (ITEM_VIEW, ITEM_FEATURES, ITEM), (RECENT_VIEW, ITEM_RECENT, ITEM))
        return {
            view.name: _write(writer, view, key, self._table(spark, table).where(F.col(_STAMP) <= F.lit(as_of)))
            for view, table, key in views
        }

    @_without_warnings()
    def push_recent(self, spark: SparkSession, since: datetime | None, as_of: datetime, items: DataFrame) -> int:
        """Write the recent counts at `as_of` of the given items (item_id), and of all that changed after `since`.

        None = whenever they changed; an item without a row has none. They replace what is stored, since late events
        change what was pushed before.
        """
        named = F.broadcast(items.select(ITEM).distinct())
        rows = self._table(spark, ITEM_RECENT).where(F.col(_STAMP) <= F.lit(as_of))
        none = {"item_interactions_1h": 0, "item_interactions_24h": 0, "item_trend": 1.0}
        absent = named.join(rows, ITEM, "left_anti").select(
            ITEM, F.lit(as_of).alias(_STAMP), *(F.lit(none.get(name)).alias(name) for name in RECENT_VIEW.features)
        )
        if since is not None:
            rows = rows.where(F.col(_STAMP) > F.lit(since)).union(rows.join(named, ITEM, "left_semi"))
        return _write(self._connect(skip_dedup=True), RECENT_VIEW, ITEM, rows.unionByName(absent))

    @_without_warnings()
    def write_histories(self, histories: Mapping[UserId, tuple[History, int]]) -> None:
        """Write histories with their write versions (us), each newer than the stored one or it is skipped."""
        if not histories:
            return
        rows = pd.DataFrame(
            {
                USER: list(histories),
                HISTORY.features[0]: [encode_history(history) for history, _ in histories.values()],
                WRITTEN_AT: pd.to_datetime([version for _, version in histories.values()], unit="us", utc=True),
            }
        )
        self._feast.write_to_online_store(HISTORY.name, rows)

    def _table(self, spark: SparkSession, table: Table) -> DataFrame:
        return spark.table(table_name(self._namespace, table))

    def _connect(self, *, skip_dedup: bool) -> Any:
        feast, config = load_feast()
        return feast.FeatureStore(
            config=config.RepoConfig(
                project=feast_project(self._namespace),
                provider="local",
                registry=config.RegistryConfig(path=self._registry),
                offline_store={"type": "spark"},
                online_store={
                    "type": "redis",
                    "connection_string": _connection_string(store_url(self._settings)),
                    "skip_dedup": skip_dedup,
                },
                entity_key_serialization_version=3,
            )
        )


def _write(writer: Any, view: View, key: str, rows: DataFrame) -> int:
    """Write each entity's newest row; returns how many there were."""
    newest = (
        rows.groupBy(key)
        .agg(F.max_by(F.struct(_STAMP, *view.features), F.col(_STAMP)).alias("row"))
        .select(key, "row.*")
        .toArrow()
    )
    if newest.num_rows:
        writer.write_to_online_store(view.name, newest.to_pandas())
    return int(newest.num_rows)


def load_feast() -> tuple[Any, Any]:
    """Import Feast, which takes seconds, and return it with its module of settings."""
    with warnings.catch_warnings(), _without_torch():  # Feast turns deprecations of all other libraries on
        return importlib.import_module("feast"), importlib.import_module("feast.repo_config")


@contextmanager
def _without_torch() -> Iterator[None]:
    """Keep Feast from importing torch, which costs seconds and 400 MB and which it does not need here."""
    with _import_lock:
        if "torch" in sys.modules or "feast" in sys.modules:
            yield
            return
        sys.modules["torch"] = None  # type: ignore[assignment]
        try:
            yield
        finally:
            del sys.modules["torch"]


def registry_file(folder: str, namespace: Namespace) -> str:
    """Return where the registry of a namespace is; a local folder for it is made."""
    if "://" not in folder:
        (Path(folder) / namespace).mkdir(parents=True, exist_ok=True)
    return f"{folder}/{namespace}/registry.db"


def _connection_string(url: str) -> str:
    """Return a redis:// URL in Feast's own notation."""
    parts = urlsplit(url)
    options: dict[str, Any] = {"db": parts.path.lstrip("/") or "0"}
    if parts.scheme == "rediss":
        options["ssl"] = "true"
    if parts.username:
        options["username"] = parts.username
    if parts.password:
        options["password"] = parts.password
    return ",".join([f"{parts.hostname}:{parts.port or 6379}", *(f"{key}={value}" for key, value in options.items())])


def as_datetime(milliseconds: int) -> datetime:
    """Return ms UTC as an aware datetime."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
