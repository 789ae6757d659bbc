"""Clients of a broker that asks who they are: with a password, a token or a certificate, right and wrong ones."""

import base64
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from pydantic import SecretStr, ValidationError
from pyspark.sql import SparkSession
from secured_broker import PASSWORD, USER, SecuredBroker, start_secured_broker

from features.kafka_source import kafka_options
from streaming.codec import encode
from streaming.config import KafkaSettings, PackageMissing, client_options
from streaming.consumer import ConsumerSpec, Received, connect, tail
from streaming.errors import BrokerRefused
from streaming.events import Interaction, Kind
from streaming.namespace import Namespace
from streaming.producer import EventProducer
from streaming.topic_creation import ensure_topics
from streaming.topics import Topics

CLICK = Interaction(
    event_id="e", happened_at=1, received_at=1, producer="test", item_id="i", user_id="u", kind=Kind.CLICK
)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Iterator[SecuredBroker]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificates")
    running = start_secured_broker(tmp_path_factory.mktemp("secured"), cache, os.environ)
    yield running
    running.process.stop()


def round_trip(kafka: KafkaSettings, topics: Topics) -> list[Received]:
    """Make the topics, produce a click and consume what is there."""
    ensure_topics(kafka, topics)
    producer = EventProducer(kafka, topics)
    producer.publish([CLICK])
    producer.close()
    found: list[Received] = []
    stop, caught_up = threading.Event(), threading.Event()

    def handle(received: list[Received]) -> None:
        found.extend(received)
        stop.set()

    tail(kafka, [topics.interactions], handle, stop, caught_up)
    return found


def test_with_the_right_password_topics_are_made_and_events_produced_and_consumed(
    secured: SecuredBroker, namespace: Namespace
) -> None:
    assert [received.event for received in round_trip(secured.scram, Topics(namespace))] == [CLICK]


def test_with_a_certificate_topics_are_made_and_events_produced_and_consumed(
    secured: SecuredBroker, namespace: Namespace
) -> None:
    assert [received.event for received in round_trip(secured.certificate, Topics(namespace))] == [CLICK]


@pytest.mark.parametrize("how", ["scram", "certificate"])
def test_spark_reads_what_the_producer_wrote_with_the_same_settings(
    secured: SecuredBroker, namespace: Namespace, spark: SparkSession, how: str
) -> None:
    kafka, topics = getattr(secured, how), Topics(namespace)
    ensure_topics(kafka, topics)
    producer = EventProducer(kafka, topics)
    producer.publish([CLICK])
    producer.close()
    records = spark.read.format("kafka").options(**kafka_options(kafka)).option("subscribe", topics.interactions).load()
    assert [bytes(row.value) for row in records.select("value").collect()] == [encode(CLICK)]


def test_who_is_not_let_in_is_told_so_in_one_sentence_that_names_the_settings_and_not_the_password(
    secured: SecuredBroker, namespace: Namespace
) -> None:
    topics = Topics(namespace)

    def sentence(use: Callable[[KafkaSettings], object], **update: object) -> str:
        with pytest.raises(BrokerRefused) as refused:
            use(secured.scram.model_copy(update=update))
        return str(refused.value)

    def produce(kafka: KafkaSettings) -> object:
        return EventProducer(kafka, topics)

    def consume(kafka: KafkaSettings) -> object:
        return connect(kafka, ConsumerSpec(topics=[topics.interactions], group=""))

    def administrate(kafka: KafkaSettings) -> object:
        return ensure_topics(kafka, topics)

    wrong = {"sasl_password": SecretStr("wrong")}
    with ThreadPoolExecutor() as pool:  # each tries for some seconds
        sentences = [
            pool.submit(sentence, produce, **wrong),
            pool.submit(sentence, consume, **wrong),
            pool.submit(sentence, administrate, **wrong),
            pool.submit(sentence, produce, sasl_username="somebody"),
            pool.submit(sentence, produce, sasl_mechanism="PLAIN"),
        ]
    for told in (future.result() for future in sentences):
        assert "\n" not in told
        for named in (str(secured.scram.bootstrap_servers), "kafka.sasl_username", "kafka.sasl_password"):
            assert named in told
        assert PASSWORD not in told
        assert "wrong" not in told
    assert "'somebody'" in sentences[3].result()


@contextmanager
def token_endpoint(secret: str) -> Iterator[tuple[str, list[dict[str, list[str]]]]]:
    """An endpoint that gives unsigned tokens to the client `shop`; its URL, and the forms it was sent."""
    forms: list[dict[str, list[str]]] = []
    expected = base64.b64encode(f"{USER}:{secret}".encode()).decode()

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            forms.append(parse_qs(self.rfile.read(int(self.headers["content-length"])).decode()))
            allowed = self.headers["authorization"] == f"Basic {expected}"
            body = json.dumps({"access_token": unsigned_token(), "expires_in": 600} if allowed else {}).encode()
            self.send_response(200 if allowed else 401)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", forms
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def unsigned_token() -> str:
    now = time.time()
    parts = {"alg": "none"}, {"sub": USER, "iat": now, "exp": now + 600, "scope": "kafka"}
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts) + "."


def test_with_a_token_of_the_endpoint_topics_are_made_and_events_produced_and_consumed(
    secured: SecuredBroker, namespace: Namespace
) -> None:
    with token_endpoint("secret") as (url, forms):
        kafka = KafkaSettings(
            bootstrap_servers=secured.scram.bootstrap_servers,
            security_protocol="SASL_PLAINTEXT",
            sasl_mechanism="OAUTHBEARER",
            sasl_username=USER,
            sasl_password=SecretStr("secret"),
            sasl_token_url=url,
            sasl_scope="kafka",
            partitions=1,
        )
        assert [received.event for received in round_trip(kafka, Topics(namespace))] == [CLICK]
        assert forms == [{"grant_type": ["client_credentials"], "scope": ["kafka"]}]  # once for all clients
        with pytest.raises(BrokerRefused, match="gave no token"):
            EventProducer(kafka.model_copy(update={"sasl_password": SecretStr("wrong")}), Topics(namespace))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"security_protocol": "SASL_SSL"}, "sasl_mechanism"),
        ({"sasl_mechanism": "PLAIN", "sasl_username": "u", "sasl_password": "p"}, "security_protocol"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "PLAIN", "sasl_username": "u"}, "sasl_password"),
        (
            {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER", "sasl_username": "u"}
            | {"sasl_password": "p"},
            "sasl_token_url",
        ),
        ({"sasl_token_url": "http://tokens.example/"}, "sasl_token_url"),
        ({"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "AWS_MSK_IAM"}, "SASL_SSL"),
    ],
)
def test_security_settings_that_do_not_fit_together_are_refused(settings: dict[str, str], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        KafkaSettings(**settings)  # type: ignore[arg-type]


def test_msk_iam_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    kafka = KafkaSettings(bootstrap_servers="h:1", security_protocol="SASL_SSL", sasl_mechanism="AWS_MSK_IAM")
    with pytest.raises(PackageMissing, match="uv sync --extra msk"):
        client_options(kafka)
