"""Spark's Kafka options from the project's Kafka settings."""

from features.config import require
from streaming.config import KafkaSettings

_SECURITY = "org.apache.kafka.common.security"


def kafka_options(kafka: KafkaSettings) -> dict[str, str]:
    """Return the connection options of Spark's Kafka source and sink."""
    options = {
        "kafka.bootstrap.servers": require(kafka.bootstrap_servers, "kafka.bootstrap_servers"),
        "kafka.security.protocol": kafka.security_protocol,
    }
    if kafka.ssl_cafile is not None:
        options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": kafka.ssl_cafile}
    if kafka.ssl_certfile is not None:
        options |= {"kafka.ssl.keystore.type": "PEM", "kafka.ssl.keystore.location": kafka.ssl_certfile}
        if kafka.ssl_key_password is not None:
            options["kafka.ssl.key.password"] = kafka.ssl_key_password.get_secret_value()
    if kafka.sasl_mechanism is not None:
        options |= {"kafka.sasl.mechanism": kafka.sasl_mechanism, **_sasl(kafka)}
    return options


def _sasl(kafka: KafkaSettings) -> dict[str, str]:
    if kafka.sasl_mechanism == "AWS_MSK_IAM":  # of aws-msk-iam-auth, a jar that Spark must be given
        return {
            "kafka.sasl.jaas.config": "software.amazon.msk.auth.iam.IAMLoginModule required;",
            "kafka.sasl.client.callback.handler.class": "software.amazon.msk.auth.iam.IAMClientCallbackHandler",
        }
    user = require(kafka.sasl_username, "kafka.sasl_username")
    secret = require(kafka.sasl_password.get_secret_value() if kafka.sasl_password else None, "kafka.sasl_password")
    if kafka.sasl_mechanism == "OAUTHBEARER":
        scope = {} if kafka.sasl_scope is None else {"scope": kafka.sasl_scope}
        login = {"clientId": user, "clientSecret": secret, **scope}
        return {
            "kafka.sasl.jaas.config": _jaas("oauthbearer.OAuthBearerLoginModule", login),
            "kafka.sasl.oauthbearer.token.endpoint.url": require(kafka.sasl_token_url, "kafka.sasl_token_url"),
            "kafka.sasl.login.callback.handler.class": f"{_SECURITY}.oauthbearer.OAuthBearerLoginCallbackHandler",
        }
    module = "plain.PlainLoginModule" if kafka.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
    return {"kafka.sasl.jaas.config": _jaas(module, {"username": user, "password": secret})}


def _jaas(module: str, options: dict[str, str]) -> str:
    listed = " ".join(f"{name}={_quoted(value)}" for name, value in options.items())
    return f"{_SECURITY}.{module} required {listed};"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
