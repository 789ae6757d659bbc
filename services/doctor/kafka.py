"""Checks of the event log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError

from services.doctor.check import Check, Expected, Failed, check
from streaming.config import KafkaSettings, client_options
from streaming.quiet import quiet
from streaming.topics import Topics

_OLDEST = (3, 0)
_NEEDED = frozenset({"READ", "WRITE", "DESCRIBE"})
_UNREACHABLE = Expected(
    (KafkaError, OSError), "check FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS, the network, and the security settings beside it"
)
_FORBIDDEN = Expected((KafkaError, OSError), "grant READ, WRITE, DESCRIBE and DESCRIBE_CONFIGS on the topics")


def checks(kafka: KafkaSettings, topics: Topics, *, embedded: bool) -> Iterator[Check]:
    """Check a cluster, no further than its connection where that fails; the embedded broker need not be durable."""
    with quiet("kafka"):
        connection = check("kafka connection", lambda: _connection(kafka), _UNREACHABLE)
        yield connection
        if not connection.passed:
            return
        with _admin(kafka) as admin:
            yield check("kafka version", lambda: _version(admin), _UNREACHABLE)
            existing = check("kafka topics", lambda: _topics(admin, kafka, topics), _UNREACHABLE)
            yield existing
            if existing.passed:
                yield check("kafka permissions", lambda: _permissions(admin, topics), _FORBIDDEN)
            if existing.passed and not embedded:
                yield check("kafka durability", lambda: _durability(admin, topics), _FORBIDDEN)


@contextmanager
def _admin(kafka: KafkaSettings) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(**client_options(kafka), bootstrap_timeout_ms=5_000)
    try:
        yield admin
    finally:
        admin.close()


def _connection(kafka: KafkaSettings) -> str:
    with _admin(kafka) as admin:
        cluster = admin.describe_cluster()
    return f"cluster {cluster['cluster_id']} with {len(cluster['brokers'])} brokers"


def _version(admin: KafkaAdminClient) -> str:
    versions = [
        admin.get_broker_version_data(b["broker_id"]).broker_version for b in admin.describe_cluster()["brokers"]
    ]
    oldest = min(versions)
    found = f"the oldest broker speaks the protocol of {'.'.join(map(str, oldest))}"
    if oldest < _OLDEST:
        raise Failed(found, "use Kafka 3.0 or newer")
    return found


def _topics(admin: KafkaAdminClient, kafka: KafkaSettings, topics: Topics) -> str:
    wanted = _durable(topics)
    missing = sorted({*wanted} - set(admin.list_topics()))
    if missing:
        raise Failed(f"missing: {', '.join(missing)}", "run `flywheel topics`")
    for topic in admin.describe_topics(sorted({*topics.landed})):
        if len(topic["partitions"]) != kafka.partitions:
            raise Failed(
                f"{topic['name']} has {len(topic['partitions'])} partitions, kafka.partitions is {kafka.partitions}",
                "set FLYWHEEL_KAFKA__PARTITIONS to what exists; a keyed topic is not resized",
            )
    return f"all {len(wanted)} topics of namespace {topics.namespace} exist"


def _permissions(admin: KafkaAdminClient, topics: Topics) -> str:
    for topic in admin.describe_topics(_durable(topics)):
        allowed = topic["authorized_operations"]
        lacking = sorted(_NEEDED - set(allowed)) if allowed is not None else []
        if lacking:
            raise Failed(f"{topic['name']} does not allow {', '.join(lacking)}", f"grant them on {topics.namespace}.*")
    return "the topics can be read and written"


def _durability(admin: KafkaAdminClient, topics: Topics) -> str:
    """Acknowledged means durable only with three copies of which two acknowledge; so it is with erasures and models."""
    for topic in admin.describe_topics(_durable(topics)):
        copies = min((len(partition["replica_nodes"]) for partition in topic["partitions"]), default=0)
        if copies < 3:
            raise Failed(
                f"{topic['name']} keeps {copies} copies of a record",
                "set FLYWHEEL_KAFKA__REPLICATION_FACTOR=3 before the topics are made, or reassign their partitions",
            )
    for name, config in _configs(admin, topics).items():
        _check_config(name, config, compacted=name in topics.compacted)
    return f"3 copies, 2 acknowledge, in {len(_durable(topics))} topics"


def _durable(topics: Topics) -> list[str]:
    return sorted({*topics.landed, *topics.compacted, topics.acknowledgements})


def _configs(admin: KafkaAdminClient, topics: Topics) -> dict[str, dict[str, Any]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in _durable(topics)]
    found: dict[str, dict[str, Any]] = admin.describe_configs(resources)["topic"]
    return found


def _check_config(name: str, config: dict[str, Any], *, compacted: bool) -> None:
    in_sync = config.get("min.insync.replicas", {"value": "1"})["value"]
    if int(in_sync) < 2:
        raise Failed(
            f"{name} acknowledges with {in_sync} copies",
            "set min.insync.replicas=2 (FLYWHEEL_KAFKA__MIN_INSYNC_REPLICAS)",
        )
    if config.get("message.timestamp.type", {"value": "CreateTime"})["value"] != "LogAppendTime":
        raise Failed(f"{name} stamps records with their own time", "set message.timestamp.type=LogAppendTime")
    for key in ("segment.ms", *(("max.compaction.lag.ms",) if compacted else ())):
        if key not in config:
            raise Failed(f"{name} leaves {key} open", f"set {key}: without it erased users stay in the log for long")
