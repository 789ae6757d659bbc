"""Jobs that derive from the lake beside erasures: what they wrote of a user whose erasure came meanwhile goes again."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from pyspark.sql import SparkSession

from features.config import StoreSettings
from features.lake_erasure import delete_derived
from features.online import SyncOnlineReader
from features.online_erasure import stored_users
from streaming.config import KafkaSettings
from streaming.ledger import LedgerReader
from streaming.topics import Topics


@contextmanager
def without_erased(spark: SparkSession, kafka: KafkaSettings, topics: Topics, store: StoreSettings) -> Iterator[None]:
    """Run a job that writes derived tables or the online store from what it read of the lake before.

    An erasure stands in the ledger before it deletes anything, so one that the job did not see in the lake is seen here
    after its writes, those of a job that failed included; the next run derives what the user did since. Raises
    BrokerUnavailable, ErasureKeyMissing, LedgerMissing and LedgerUnreadable.
    """
    with closing(LedgerReader(kafka, topics)) as reader:
        reader.refresh()
        pending = set(reader.ledger.pending)  # one of these may be carried out while the job runs
        try:
            yield
        finally:
            marks = reader.refresh() | pending | reader.ledger.pending.keys()
            if marks:
                delete_derived(spark, topics.namespace, marks, reader.ledger.marker)
                with closing(SyncOnlineReader(store, topics.namespace)) as online:
                    for user_id in stored_users(store, topics.namespace):
                        if reader.ledger.marker.mark(user_id) in marks:
                            online.delete_features(user_id)
