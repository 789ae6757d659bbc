"""What it means that a client could not be connected."""

from collections.abc import Callable
from typing import Any

from kafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError, NodeNotReadyError
from kafka.net.compat import KafkaNetClient

from streaming.config import KafkaSettings, client_options
from streaming.errors import BrokerRefused, BrokerUnavailable

_ASK_TIMEOUT_MS = 5_000
_SETTLE_S = 0.2
_SILENCES = (KafkaConnectionError, KafkaTimeoutError, NodeNotReadyError, ConnectionError, TimeoutError)


def unconnected(kafka: KafkaSettings, error: KafkaError) -> BrokerUnavailable:
    """Return the sentence for a client that could not be made: refused by the broker, or not answered at all."""
    reason = _refusal(kafka) if kafka.security_protocol != "PLAINTEXT" else None
    if reason is None:
        return BrokerUnavailable(f"no broker answers at {kafka.bootstrap_servers}: {error}")
    if kafka.sasl_mechanism is None:
        who, settings = "a client", "kafka.ssl_cafile and kafka.ssl_certfile"
    else:
        who = f"{kafka.sasl_username or 'a client'!r} with {kafka.sasl_mechanism}"
        settings = "kafka.sasl_username, kafka.sasl_password and kafka.sasl_mechanism"
    return BrokerRefused(f"the broker at {kafka.bootstrap_servers} refuses {who}: {reason}; check {settings}")


def _refusal(kafka: KafkaSettings) -> str | None:
    """Connect once and return why a broker that answered sent us away, None when none answered.

    kafka-python's clients try again until their time is up and then say no more than that.
    """
    client = KafkaNetClient(**client_options(kafka))
    client._net.start()
    try:
        reasons: list[Exception] = client._net.run(_ask, client)
    finally:
        client.close()
    refusals = [reason for reason in reasons if not isinstance(reason, _SILENCES)]
    return " ".join(str(refusals[0]).split()) if refusals else None


async def _ask(client: KafkaNetClient) -> list[Exception]:
    """Return what was against a connection, nothing when it was made."""
    manager = client._manager
    [node, *_] = manager.cluster.bootstrap_brokers()
    connection = manager.get_connection(node.node_id, timeout_ms=_ASK_TIMEOUT_MS, pop_on_close=False)
    reasons: list[Exception] = []
    made, close = connection.connection_made, connection.close

    def close_for(reason: Exception | None = None) -> None:
        reasons.extend([reason] if reason else [])
        close(reason)

    def made_of(transport: Any) -> None:
        transport._sock_recv = _with_last_words(transport._sock_recv)
        made(transport)

    connection.close, connection.connection_made = close_for, made_of
    try:
        await connection
    except (KafkaError, OSError) as error:
        await client._net.sleep(_SETTLE_S)  # what was read before the broker hung up may be acted on only now
        reasons.append(error)
    return reasons


def _with_last_words(receive: Callable[[], tuple[bytes, Any]]) -> Callable[[], tuple[bytes, Any]]:
    """Hand over what came before the end of a connection; kafka-python drops it, and it is the reason for the end."""
    ends: list[Any] = []

    def receive_all() -> tuple[bytes, Any]:
        if ends:
            return b"", ends.pop()
        data, end = receive()
        if data and end is not None:
            ends.append(end)
            return data, None
        return data, end

    return receive_all
