import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from waiting import wait_until

from streaming.config import KafkaSettings, client_options
from streaming.embedded.broker import BrokerNotEmbeddable, start_broker
from streaming.embedded.ports import PortBusy


def _cluster_id(kafka: KafkaSettings) -> str:
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        return str(admin.describe_cluster()["cluster_id"])
    finally:
        admin.close()


def _produce(kafka: KafkaSettings, topic: str, values: list[bytes]) -> None:
    admin = KafkaAdminClient(**client_options(kafka))
    admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}}, wait_for_metadata=True)
    admin.close()
    producer = KafkaProducer(**client_options(kafka), acks="all")
    for future in [producer.send(topic, value) for value in values]:
        future.get(timeout=20)
    producer.close()


def _consume(kafka: KafkaSettings, topic: str, count: int) -> list[bytes]:
    consumer = KafkaConsumer(
        topic, **client_options(kafka), auto_offset_reset="earliest", consumer_timeout_ms=20_000, group_id=None
    )
    try:
        return [record.value for _, record in zip(range(count), consumer, strict=False)]
    finally:
        consumer.close()


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_was_acknowledged_is_still_there_after_the_broker_is_killed_and_started_again(
    tmp_path: Path, cache: Path
) -> None:
    values = [str(number).encode() for number in range(100)]
    first = start_broker(tmp_path, KafkaSettings(), cache, os.environ)
    try:
        cluster = _cluster_id(first.settings)
        _produce(first.settings, "numbers", values)
        psutil.Process(first.process.pid).kill()
    finally:
        first.stop()
    second = start_broker(tmp_path, KafkaSettings(), cache, os.environ)
    try:
        assert second.settings.bootstrap_servers != first.settings.bootstrap_servers
        assert _cluster_id(second.settings) == cluster
        assert _consume(second.settings, "numbers", len(values)) == values
    finally:
        second.stop()


def test_a_busy_configured_port_is_a_clear_error(tmp_path: Path, cache: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortBusy, match=rf"port {port} on 127\.0\.0\.1 .*FLYWHEEL_KAFKA__PORT"):
            start_broker(tmp_path, KafkaSettings(port=port), cache, os.environ)


@pytest.mark.parametrize("asked", [{"replication_factor": 3}, {"security_protocol": "SSL"}, {"min_insync_replicas": 2}])
def test_one_plain_node_does_not_pretend_to_be_a_cluster(tmp_path: Path, cache: Path, asked: dict[str, object]) -> None:
    with pytest.raises(BrokerNotEmbeddable, match="FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS"):
        start_broker(tmp_path, KafkaSettings.model_validate(asked), cache, os.environ)


def test_killing_the_parent_leaves_no_java(tmp_path: Path, cache: Path) -> None:
    code = """
import os, pathlib, sys
from streaming.config import KafkaSettings
from streaming.embedded.broker import start_broker
broker = start_broker(pathlib.Path(sys.argv[1]), KafkaSettings(), pathlib.Path(sys.argv[2]), os.environ)
print(broker.process.pid, flush=True)
sys.stdin.read()
"""
    argv = [sys.executable, "-c", code, str(tmp_path), str(cache)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        java = psutil.Process(int(parent.stdout.readline()))
        assert "java" in java.name()
        parent.kill()
    wait_until(lambda: not _runs(java), otherwise=lambda: "the broker still runs after its parent was killed")
