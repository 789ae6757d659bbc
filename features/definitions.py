"""What Feast is told: entities and feature views, built in code. Only `features.store` imports this module."""

from datetime import timedelta

from feast import Entity, FeatureView, Field, PushSource, ValueType
from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource
from feast.types import Bytes, FeastType, Float64, Int64, String
from pyspark.sql.types import DataType, DoubleType, LongType, StringType

from features.lake import INTERACTIONS, ITEM_FEATURES, ITEM_RECENT, USER_FEATURES, Table, table_name
from features.project import HISTORY, ITEM, ITEM_VIEW, RECENT_VIEW, USER, USER_VIEW, WRITTEN_AT, View
from streaming.namespace import Namespace

_TYPES: dict[type[DataType], FeastType] = {LongType: Int64, DoubleType: Float64, StringType: String}


def definitions(namespace: Namespace, max_age_days: int) -> list[Entity | FeatureView]:
    """Return the entities and views of a namespace; features older than `max_age_days` do not join."""
    user = Entity(name="user", join_keys=[USER], value_type=ValueType.STRING)
    item = Entity(name="item", join_keys=[ITEM], value_type=ValueType.STRING)
    ttl = timedelta(days=max_age_days)
    return [
        user,
        item,
        _batch_view(namespace, USER_VIEW, USER_FEATURES, user, ttl),
        _batch_view(namespace, ITEM_VIEW, ITEM_FEATURES, item, ttl),
        _batch_view(namespace, RECENT_VIEW, ITEM_RECENT, item, ttl),
        _history_view(namespace, user),
    ]


def _batch_view(namespace: Namespace, view: View, table: Table, entity: Entity, ttl: timedelta) -> FeatureView:
    kinds = {field.name: _TYPES[type(field.dataType)] for field in table.columns.fields if field.name in view.features}
    return FeatureView(
        name=view.name,
        entities=[entity],
        ttl=ttl,
        schema=[Field(name=entity.join_key, dtype=String), *(Field(name=n, dtype=kinds[n]) for n in view.features)],
        source=SparkSource(name=table.name, table=table_name(namespace, table), timestamp_field="event_timestamp"),
    )


def _history_view(namespace: Namespace, user: Entity) -> FeatureView:
    """Return the view that the updater writes; Feast wants a batch source, and nothing is read from this one."""
    source = SparkSource(name=INTERACTIONS.name, table=table_name(namespace, INTERACTIONS), timestamp_field=WRITTEN_AT)
    return FeatureView(
        name=HISTORY.name,
        entities=[user],
        ttl=timedelta(0),
        schema=[Field(name=USER, dtype=String), *(Field(name=name, dtype=Bytes) for name in HISTORY.features)],
        source=PushSource(name="history_pushes", batch_source=source),
    )
