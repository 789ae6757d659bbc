"""Settings of the event log."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from streaming.errors import FlywheelError


class KafkaSettings(BaseModel):
    """Where the Kafka cluster is and how its topics are made.

    Without `bootstrap_servers` the embedded stack starts a broker of its own on loopback.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bootstrap_servers: str | None = Field(None, description="host:port list of the cluster; unset = embedded broker")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how clients talk to the cluster"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="SASL mechanism, with a SASL protocol"
    )
    sasl_username: str | None = Field(None, description="SASL user")
    sasl_password: SecretStr | None = Field(None, description="SASL password")
    ssl_cafile: str | None = Field(None, description="CA bundle that signs the brokers' certificates")
    partitions: int = Field(4, ge=1, le=1000, description="partitions of a topic, fixed when it is created")
    replication_factor: int = Field(1, ge=1, le=10, description="copies of a partition; production needs 3")
    min_insync_replicas: int = Field(1, ge=1, le=10, description="copies that must acknowledge; production needs 2")
    retention_hours: int = Field(24 * 30, ge=1, description="hours that event topics keep a record after its append")
    port: int | None = Field(None, ge=1, le=65535, description="port of the embedded broker; unset = a free one")
    erasure_key: SecretStr | None = Field(
        None,
        min_length=32,
        description="secret of the erasure ledger, one for all processes; unset = the embedded broker's, in home",
    )


class BrokerAddressMissing(FlywheelError):
    """A client was built before the broker's address was known."""

    exit_code = 2


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the connection arguments that every kafka-python client takes.

    Raises BrokerAddressMissing when no address is set.
    """
    if kafka.bootstrap_servers is None:
        raise BrokerAddressMissing(
            "kafka.bootstrap_servers is not set and no embedded stack runs: set FLYWHEEL_KAFKA__BOOTSTRAP_SERVERS "
            "or start `flywheel up`"
        )
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "security_protocol": kafka.security_protocol,
    }
    if kafka.ssl_cafile is not None:
        options["ssl_cafile"] = kafka.ssl_cafile
    if kafka.sasl_mechanism is not None:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password and kafka.sasl_password.get_secret_value()
    return options
