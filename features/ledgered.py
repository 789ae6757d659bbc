"""The erasure ledger in Spark: which decoded records and which rows belong to somebody who was erased after them.

Marks are computed by Spark's own functions (HMAC-SHA256, RFC 2104), so no row passes through Python for it.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the customary name

from features.decoding import DEAD, ERASED, EVENT, PARKED
from features.lake import IMPRESSIONS, INTERACTIONS, LANDED_OF_USERS
from streaming.ledger import Ledger
from streaming.marks import Marker
from streaming.topics import Topics

_BLOCK = 64  # bytes of SHA-256


def mark_of(owner: Column, marker: Marker) -> Column:
    """Return the marks of a column of owners, null where there is none; as `Marker.mark` does."""
    padded = marker.key.ljust(_BLOCK, b"\0")
    inner, outer = (F.lit(bytearray(byte ^ pad for byte in padded)) for pad in (0x36, 0x5C))
    first = F.sha2(F.concat(inner, owner.cast("binary")), 256)
    return F.sha2(F.concat(outer, F.unhex(first)), 256)


def owner_column(user_id: Column, session_id: Column) -> Column:
    """Return the owners of rows with these columns, as `streaming.marks.owner_of` does."""
    return F.coalesce(user_id, F.concat(F.lit("session:"), session_id))


def judged(records: DataFrame, ledger: Ledger, topics: Topics) -> DataFrame:
    """Return decoded records with the outcome `erased` where the ledger drops them, whatever they hold.

    A record that does not decode is judged by its key. Entries by the hundred thousand still fit a broadcast.
    """
    if not ledger.cuts:
        return records
    cuts = records.sparkSession.createDataFrame(list(ledger.cuts.items()), "mark string, cut bigint")
    received = F.coalesce(*(F.col(f"{table.name}.received_at") for table in LANDED_OF_USERS))
    at = F.unix_millis(F.least("appended_at", received))
    mark = mark_of(_owner(topics), ledger.marker)
    is_dropped = F.coalesce(at <= F.col("cut"), F.lit(False))
    return (
        records.withColumn("mark", mark)
        .join(F.broadcast(cuts), "mark", "left")
        .withColumn("outcome", F.when(is_dropped, ERASED).otherwise(F.col("outcome")))
        .drop("mark", "cut")
    )


def _owner(topics: Topics) -> Column:
    """Return the owner of a decoded record, that of its key where there is no event."""
    of_event = F.coalesce(
        *(F.col(f"{table.name}.user_id") for table in LANDED_OF_USERS),
        *(F.concat(F.lit("session:"), F.col(f"{table.name}.session_id")) for table in (INTERACTIONS, IMPRESSIONS)),
    )
    key = F.col("key").cast("string")
    of_key = F.when(F.col("topic") == topics.identities, F.concat(F.lit("session:"), key)).when(
        F.col("topic").isin(topics.users, topics.interactions, topics.impressions), key
    )
    outcome = F.col("outcome")
    return F.when(outcome == EVENT, of_event).when(outcome.isin(DEAD, PARKED), of_key)
