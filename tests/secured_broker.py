"""A real broker that lets nobody in without a password, a token or a certificate."""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion
from kafka.errors import KafkaError

from streaming.config import KafkaSettings, client_options
from streaming.embedded.jars import broker_jars
from streaming.embedded.java import java
from streaming.embedded.ports import LOOPBACK, choose_port
from streaming.embedded.process import ChildProcess, Command
from streaming.quiet import quiet

USER, PASSWORD = "shop", 'pa"ss\\word'
_JAAS = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class SecuredBroker:
    """Its process, and settings that reach it by SCRAM-SHA-512 and by a client's certificate."""

    process: ChildProcess
    scram: KafkaSettings
    certificate: KafkaSettings


def start_secured_broker(home: Path, cache: Path, environ: Mapping[str, str]) -> SecuredBroker:
    """Start it; it takes OAUTHBEARER with unsigned tokens at the address of SCRAM, too."""
    server, client = (_certificate(home, name) for name in ("server", "client"))
    trusted = home / "trusted.pem"
    trusted.write_text("".join(file.with_suffix(".crt").read_text() for file in (server, client)))
    internal, controller, sasl, tls = (choose_port(None, "a test") for _ in range(4))
    properties = home / "server.properties"
    properties.write_text(
        f"""process.roles=broker,controller
node.id=1
listeners=INTERNAL://{LOOPBACK}:{internal},CONTROLLER://{LOOPBACK}:{controller},SASL://{LOOPBACK}:{sasl},TLS://{LOOPBACK}:{tls}
advertised.listeners=INTERNAL://{LOOPBACK}:{internal},SASL://{LOOPBACK}:{sasl},TLS://{LOOPBACK}:{tls}
listener.security.protocol.map=INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
controller.quorum.bootstrap.servers={LOOPBACK}:{controller}
log.dirs={home / "data"}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
sasl.enabled.mechanisms=SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl.scram-sha-512.sasl.jaas.config={_JAAS}.scram.ScramLoginModule required;
listener.name.sasl.oauthbearer.sasl.jaas.config={_JAAS}.oauthbearer.OAuthBearerLoginModule required;
listener.name.tls.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={trusted}
"""
    )
    start = [str(java()), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp"]
    start.append(":".join(map(str, broker_jars(cache))))
    tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", str(properties)]
    subprocess.run([*start, *tool], env=dict(environ), capture_output=True, check=True)
    command = Command(
        "secured-broker", [*start, "kafka.Kafka", str(properties)], environ, home / "broker.log", home / "lock"
    )
    settings = KafkaSettings(
        bootstrap_servers=f"{LOOPBACK}:{sasl}",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username=USER,
        sasl_password=PASSWORD,
        partitions=1,
    )
    certificate = KafkaSettings(
        bootstrap_servers=f"{LOOPBACK}:{tls}",
        security_protocol="SSL",
        ssl_cafile=str(trusted),
        ssl_certfile=str(client),
        partitions=1,
    )
    internal_settings = KafkaSettings(bootstrap_servers=f"{LOOPBACK}:{internal}")
    process = ChildProcess.launch(command, lambda: _lets_in(internal_settings), 120)
    return SecuredBroker(process, settings, certificate)


def _lets_in(kafka: KafkaSettings) -> bool:
    """Whether the user's password could be set; `kafka` is the listener that asks for none."""
    credential = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, PASSWORD)
    try:
        with quiet("kafka"):
            admin = KafkaAdminClient(**client_options(kafka), bootstrap_timeout_ms=1_000)
            refused = admin.alter_user_scram_credentials([credential])[USER]
            admin.close()
    except KafkaError:
        return False
    return refused is None


def _certificate(home: Path, name: str) -> Path:
    """Make a key and a certificate of its own for loopback; the file with both, beside one of the certificate alone."""
    key, certificate, both = home / f"{name}.key", home / f"{name}.crt", home / f"{name}.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    named = ["-addext", f"subjectAltName=IP:{LOOPBACK}", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *named], capture_output=True, check=True)
    both.write_text(key.read_text() + certificate.read_text())
    return both
