"""What a running lander shows: what became of the records, and every difference that its audit found."""

from dataclasses import replace
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry

from features.accounting import Accounting, PartitionAccount
from features.batch import Landing
from features.config import LakeSettings, StoreSettings
from features.differences import Difference
from features.landing import Lander
from services.auditing import Auditor
from services.landing_metrics import LandingMetrics
from streaming.config import KafkaSettings
from streaming.namespace import Namespace
from streaming.topics import Topics

TOPIC = "shop.interactions"
AT = datetime(2026, 3, 1, tzinfo=UTC)
BATCH = Landing(
    topic=TOPIC,
    partition=0,
    from_offset=0,
    until_offset=10,
    records=10,
    inserted=5,
    duplicate=2,
    dead=1,
    parked=1,
    tombstones=0,
    erased=1,
    batch_id=0,
    landed_at=AT,
)
COUNTS = {"inserted": 5, "duplicate": 2, "dead": 1, "parked": 1, "tombstones": 0, "erased": 1}


def test_records_are_counted_by_what_became_of_them() -> None:
    registry = CollectorRegistry()
    metrics = LandingMetrics(registry)
    metrics.landed([BATCH, replace(BATCH, partition=1, dead=3)])
    values = {
        outcome: registry.get_sample_value("flywheel_landing_records_total", {"topic": TOPIC, "outcome": outcome})
        for outcome in COUNTS
    }
    assert values == {outcome: 2 * count + (2 if outcome == "dead" else 0) for outcome, count in COUNTS.items()}
    assert registry.get_sample_value("flywheel_landing_unixtime") == AT.timestamp()


def test_an_audit_shows_zero_for_what_adds_up_and_the_number_of_differences_for_what_does_not() -> None:
    reached = {"offsets": 10, "acknowledged": 8, "landed_offsets": 10, "records": 10}
    even = PartitionAccount(TOPIC, 0, erased_rows=0, rows=5, **reached, **COUNTS)
    uneven = replace(even, partition=1, rows=4)
    lost = Difference(TOPIC, 1, 7, 7, "has landed and is not in the lake")
    registry = CollectorRegistry()
    metrics = LandingMetrics(registry)
    metrics.audited(Accounting((even, uneven), (lost,)), 99.0)
    values = [
        registry.get_sample_value("flywheel_audit_differences", {"topic": TOPIC, "partition": partition})
        for partition in "01"
    ]
    assert values == [0, 2]
    metrics.audited(Accounting((even,), ()), 99.0)
    mended = {"topic": TOPIC, "partition": "1"}
    assert registry.get_sample_value("flywheel_audit_differences", mended) == 0
    assert registry.get_sample_value("flywheel_audit_unixtime") == 99


def test_an_audit_that_cannot_end_is_counted_and_landing_goes_on(free_tcp_port: int) -> None:
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_tcp_port}")
    nothing: object = None  # the log is asked first
    lander = Lander(nothing, kafka, LakeSettings(), StoreSettings(), Topics(Namespace("shop")), lambda: 0)  # type: ignore[arg-type]
    registry = CollectorRegistry()
    Auditor(lander, LandingMetrics(registry), 1.0).once()
    assert registry.get_sample_value("flywheel_audits_failed_total") == 1
    assert registry.get_sample_value("flywheel_audit_unixtime") == 0
