"""Spark's Kafka options from the project's Kafka settings."""

from features.config import require
from streaming.config import KafkaSettings


def kafka_options(kafka: KafkaSettings) -> dict[str, str]:
    """Return the connection options of Spark's Kafka source and sink."""
    options = {
        "kafka.bootstrap.servers": require(kafka.bootstrap_servers, "kafka.bootstrap_servers"),
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.ssl_cafile is not None:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": kafka.ssl_cafile}
    if kafka.sasl_mechanism is not None:
        options |= {"kafka.sasl.mechanism": kafka.sasl_mechanism, "kafka.sasl.jaas.config": _jaas(kafka)}
    return options


def _jaas(kafka: KafkaSettings) -> str:
    module = "plain.PlainLoginModule" if kafka.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
    user = require(kafka.sasl_username, "kafka.sasl_username")
    secret = kafka.sasl_password.get_secret_value() if kafka.sasl_password else None
    password = require(secret, "kafka.sasl_password")
    return f"org.apache.kafka.common.security.{module} required username={_quoted(user)} password={_quoted(password)};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
