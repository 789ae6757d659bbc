"""The embedded broker: one real Apache Kafka node (KRaft) in a child JVM, on loopback, its log kept in the home."""

import base64
import shutil
import socket
import subprocess
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.embedded.erasure_key import make_erasure_key
from streaming.embedded.jars import broker_jars
from streaming.embedded.java import java
from streaming.embedded.ports import LOOPBACK, choose_port
from streaming.embedded.process import ChildProcess, Command
from streaming.errors import FlywheelError
from streaming.quiet import quiet

_READY_TOPIC = "_ready"
_START_TIMEOUT_S = 120
# C1 only: half the compiler's CPU at start, and the log's work is in the page cache anyway.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx384m", "-Xss512k")
_LOGGING = """rootLogger.level=WARN
rootLogger.appenderRef.console.ref=console
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %m (%c)%n
"""


class BrokerNotEmbeddable(FlywheelError):
    """The settings ask of the embedded broker what one plain node on loopback cannot do."""

    exit_code = 2


class BrokerNotFormatted(FlywheelError):
    """Kafka's storage tool could not prepare the data folder."""


@dataclass(frozen=True)
class Broker:
    """A running embedded broker: its process, and the settings that reach it."""

    settings: KafkaSettings
    process: ChildProcess

    def stop(self) -> None:
        """Stop the broker cleanly; everything acknowledged stays in its log."""
        self.process.stop()


def start_broker(
    home: Path, kafka: KafkaSettings, cache: Path, environ: Mapping[str, str], advertised_port: int | None = None
) -> Broker:
    """Start the broker whose log lies in `home`/kafka and return once it has acknowledged a record.

    `advertised_port` is the one that clients are told, where it is not the broker's own. Raises PortBusy, CorruptJar,
    JarsUnavailable, BrokerNotEmbeddable, StillRunning, ChildDied or ChildNotReady; nothing is left running then.
    """
    _check_embeddable(kafka)
    folder = home / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    jars = broker_jars(cache)
    port = choose_port(kafka.port, "FLYWHEEL_KAFKA__PORT")
    controller_port = choose_port(None, "FLYWHEEL_KAFKA__PORT")
    _format_once(folder, jars, environ)
    advertised = advertised_port or port
    properties = _write_properties(folder / "server.properties", folder / "data", (port, advertised), controller_port)
    (folder / "log4j2.properties").write_text(_LOGGING)
    logging = f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}"
    argv = [str(java()), *_JVM, logging, "-cp", _class_path(jars), "kafka.Kafka", str(properties)]
    key = kafka.erasure_key or make_erasure_key(home)
    settings = kafka.model_copy(update={"bootstrap_servers": f"{LOOPBACK}:{advertised}", "erasure_key": key})
    command = Command("broker", argv, environ, log=home / "logs" / "broker.log", lock=folder / "lock")
    process = ChildProcess.launch(command, lambda: _acknowledges(settings, port), _START_TIMEOUT_S)
    return Broker(settings, process)


def _check_embeddable(kafka: KafkaSettings) -> None:
    if kafka.security_protocol != "PLAINTEXT" or kafka.replication_factor > 1 or kafka.min_insync_replicas > 1:
        raise BrokerNotEmbeddable(
            "the embedded broker is one node without passwords: set FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS to a cluster, or "
            "leave security_protocol at PLAINTEXT, replication_factor and min_insync_replicas at 1"
        )


def _acknowledges(kafka: KafkaSettings, port: int) -> bool:
    """Whether a record was acknowledged just now; quick to say no while the port is closed."""
    try:
        socket.create_connection((LOOPBACK, port), timeout=1).close()
        with quiet("kafka"):
            _ensure_ready_topic(kafka)
            _send(kafka)
    except (OSError, KafkaError):
        return False
    return True


def _send(kafka: KafkaSettings) -> None:
    producer = KafkaProducer(**client_options(kafka), acks="all", max_block_ms=5_000)
    try:
        producer.send(_READY_TOPIC, b"ready").get(timeout=5)
    finally:
        producer.close(timeout=1)


def _ensure_ready_topic(kafka: KafkaSettings) -> None:
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        if _READY_TOPIC not in admin.list_topics():
            topic = {"num_partitions": 1, "replication_factor": 1, "configs": {"retention.ms": "3600000"}}
            admin.create_topics({_READY_TOPIC: topic}, wait_for_metadata=True)
    finally:
        admin.close()


def _format_once(folder: Path, jars: list[Path], environ: Mapping[str, str]) -> None:
    """Prepare an empty data folder, whole or not at all."""
    data, fresh = folder / "data", folder / "data.new"
    if data.exists():
        return
    shutil.rmtree(fresh, ignore_errors=True)
    properties = _write_properties(folder / "format.properties", fresh, (1, 1), 2)
    tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", _new_cluster_id(), "-c", str(properties)]
    argv = [str(java()), *_JVM, "-cp", _class_path(jars), *tool]
    done = subprocess.run(argv, env=dict(environ), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise BrokerNotFormatted(f"the broker's data folder {data} could not be prepared: {' '.join(last)}")
    fresh.rename(data)


def _new_cluster_id() -> str:
    raw = uuid.uuid4().bytes
    # The first bit cleared keeps the text from starting with "-", which the storage tool takes for an option.
    return base64.urlsafe_b64encode(bytes([raw[0] & 0x7F]) + raw[1:]).rstrip(b"=").decode()


def _class_path(jars: list[Path]) -> str:
    return ":".join(str(jar) for jar in jars)


def _write_properties(path: Path, data: Path, ports: tuple[int, int], controller_port: int) -> Path:
    port, advertised = ports
    path.write_text(
        f"""process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}
advertised.listeners=PLAINTEXT://{LOOPBACK}:{advertised}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
controller.quorum.bootstrap.servers={LOOPBACK}:{controller_port}
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
num.network.threads=2
num.io.threads=2
num.recovery.threads.per.data.dir=1
background.threads=2
log.cleaner.dedupe.buffer.size=8388608
"""
    )
    return path
