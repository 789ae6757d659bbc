"""Settings of the event log."""

import importlib.util
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

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
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "AWS_MSK_IAM"] | None = Field(
        None, description="SASL mechanism, with a SASL protocol; AWS_MSK_IAM needs the extra `msk`"
    )
    sasl_username: str | None = Field(None, description="SASL user; with OAUTHBEARER the client's id")
    sasl_password: SecretStr | None = Field(None, description="SASL password; with OAUTHBEARER the client's secret")
    sasl_token_url: str | None = Field(
        None,
        pattern=r"^(https://|http://(127\.0\.0\.1|localhost)[:/])",
        description="https URL that OAUTHBEARER gets its tokens from, by client credentials",
    )
    sasl_scope: str | None = Field(None, description="scope that OAUTHBEARER asks for; unset = the endpoint's own")
    ssl_cafile: str | None = Field(None, description="CA bundle that signs the brokers' certificates")
    ssl_certfile: str | None = Field(
        None, description="PEM file of the client's PKCS #8 key and certificates, where brokers ask for one"
    )
    ssl_key_password: SecretStr | None = Field(None, description="password of that key")
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

    @model_validator(mode="after")
    def _has_what_its_mechanism_needs(self) -> Self:
        has_protocol = self.security_protocol.startswith("SASL_")
        if has_protocol != (self.sasl_mechanism is not None):
            raise ValueError("sasl_mechanism and a security_protocol of SASL_… belong together: set both or neither")
        if self.sasl_mechanism == "AWS_MSK_IAM":
            if self.security_protocol != "SASL_SSL":
                raise ValueError("sasl_mechanism AWS_MSK_IAM needs security_protocol SASL_SSL")
            return self
        if self.sasl_mechanism is not None and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"sasl_mechanism {self.sasl_mechanism} needs sasl_username and sasl_password")
        if self.sasl_mechanism == "OAUTHBEARER" and self.sasl_token_url is None:
            raise ValueError("sasl_mechanism OAUTHBEARER needs sasl_token_url")
        return self


class PackageMissing(FlywheelError):
    """A setting needs a package that is not installed."""

    exit_code = 2


class BrokerAddressMissing(FlywheelError):
    """A client was built before the broker's address was known."""

    exit_code = 2


def client_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the connection arguments that every kafka-python client takes.

    Raises BrokerAddressMissing when no address is set, and PackageMissing.
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
    if kafka.ssl_certfile is not None:
        options["ssl_certfile"] = kafka.ssl_certfile
        options["ssl_password"] = kafka.ssl_key_password and kafka.ssl_key_password.get_secret_value()
    return options | _sasl_options(kafka)


def _sasl_options(kafka: KafkaSettings) -> dict[str, Any]:
    mechanism = {"sasl_mechanism": kafka.sasl_mechanism}
    if kafka.sasl_mechanism is None:
        return {}
    if kafka.sasl_mechanism == "AWS_MSK_IAM":  # credentials and region are those of AWS's own chain
        if importlib.util.find_spec("botocore") is None:
            raise PackageMissing("kafka.sasl_mechanism AWS_MSK_IAM needs botocore: run `uv sync --extra msk`")
        return mechanism
    secret = kafka.sasl_password and kafka.sasl_password.get_secret_value()
    if kafka.sasl_mechanism == "OAUTHBEARER":
        from streaming.oauth import client_credentials  # noqa: PLC0415 - settings alone need no HTTP client

        client = (str(kafka.sasl_username), str(secret))
        return mechanism | {
            "sasl_oauth_token_provider": client_credentials(str(kafka.sasl_token_url), client, kafka.sasl_scope)
        }
    return mechanism | {"sasl_plain_username": kafka.sasl_username, "sasl_plain_password": secret}
