"""What is derived from the lake, feature tables, training examples and the online store, without who is erased."""

from datetime import datetime

from pyspark.sql import SparkSession

from features.commits import Written
from features.derived_erasure import without_erased
from features.labels import ExampleSpec
from features.store import FeatureStore
from features.training_set import build_features, build_training_set
from services.config import Settings


def applied_store(settings: Settings) -> FeatureStore:
    """Return the features in Feast, every view registered."""
    store = FeatureStore(settings.store.under(settings.home), settings.topics.namespace)
    store.apply()
    return store


def write_features(settings: Settings, spark: SparkSession, store: FeatureStore, as_of: datetime) -> dict[str, Written]:
    """Write the feature tables and the training examples as of a moment; returns what was written, by table.

    Raises BrokerUnavailable, ErasureKeyMissing, LakeBusy, LedgerMissing and LedgerUnreadable.
    """
    namespace = settings.topics.namespace
    with without_erased(spark, settings.kafka, settings.topics, settings.store):
        written = build_features(spark, namespace, as_of)
        written["examples"] = build_training_set(spark, namespace, store, ExampleSpec(), as_of)
    return written


def materialise(settings: Settings, spark: SparkSession, store: FeatureStore, as_of: datetime) -> dict[str, int]:
    """Write the newest features as of a moment into the online store; returns the rows by view.

    Raises BrokerUnavailable, ErasureKeyMissing, LedgerMissing and LedgerUnreadable.
    """
    with without_erased(spark, settings.kafka, settings.topics, settings.store):
        return store.materialise(spark, as_of)
