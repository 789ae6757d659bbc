"""The embedded stack: every part that the settings do not place elsewhere, as child processes of this one."""

import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Self

from kafka.admin import KafkaAdminClient
from kafka.errors import CoordinatorNotAvailableError, KafkaError
from rich.console import Console

from features.config import store_url
from features.updater import group_of
from features.valkey import start_valkey
from services.config import PREFIX, Settings
from services.endpoints import Endpoints, remove_endpoints, write_endpoints
from services.environment import settings_environ
from services.home import full, held, is_full, writing
from streaming.config import KafkaSettings, client_options
from streaming.embedded.broker import start_broker
from streaming.embedded.jars import broker_jars
from streaming.embedded.java import user_cache
from streaming.embedded.ports import choose_port
from streaming.embedded.process import ChildDied, ChildNotReady, ChildProcess, Command
from streaming.errors import BrokerUnavailable
from streaming.topic_creation import ensure_topics

_SERVICE_TIMEOUT_S = 180
_WATCH_S = 0.5
_READY_POLL_S = 0.2
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - listened on by choice of the settings, not here


@dataclass(frozen=True)
class Started:
    """One part that is proven ready: its name, where it is, and the seconds that it took."""

    part: str
    where: str
    seconds: float


Report = Callable[[Started], None]


@dataclass(frozen=True)
class _Service:
    """A service that was started and is to prove itself."""

    child: ChildProcess
    where: str
    ready: Callable[[], bool]
    began: float


class Stack:
    """The parts that run on one home. Used as a context manager: leaving it stops them all.

    `settings` always knows the addresses of what has been started.
    """

    def __init__(self, settings: Settings, environ: Mapping[str, str], report: Report) -> None:
        self.settings = settings
        self._environ = environ
        self._report = report
        self._held = ExitStack()
        self._stores: list[ChildProcess] = []
        self._services: list[ChildProcess] = []
        self._launched: list[_Service] = []
        self._interrupted = False

    def __enter__(self) -> Self:
        """Hold the home; raises HomeUnusable or AlreadyRunning."""
        self._held.enter_context(held(self.settings.home))
        self._held.enter_context(self._interrupts_noted())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._held.close()

    def start_stores(self) -> Settings:
        """Start broker and online store, make the topics, and return the settings that reach them.

        Raises a FlywheelError that says what is wrong.
        """
        with self._explained():
            self._start_broker()
            self._start_valkey()
            self._make_topics()
            self._write_endpoints(None, None)
        return self.settings

    def start_services(self) -> Endpoints:
        """Start recommender, collector and history updater together and return the addresses once all are ready.

        Raises a FlywheelError that says what is wrong.
        """
        self.launch_http()
        self.launch_updater()
        return self.await_services()

    def launch_http(self) -> None:
        """Start recommender and collector without waiting; raises a FlywheelError that says what is wrong."""
        with self._explained():
            serving = self.settings.serving
            ports = {
                "recommender_port": choose_port(serving.recommender_port, f"{PREFIX}SERVING__RECOMMENDER_PORT"),
                "collector_port": choose_port(serving.collector_port, f"{PREFIX}SERVING__COLLECTOR_PORT"),
            }
            self.settings = self.settings.model_copy(update={"serving": serving.model_copy(update=ports)})
            host = _EVERYWHERE.get(serving.host, serving.host)
            for name, port in zip(("recommender", "collector"), ports.values(), strict=True):
                self._launched.append(self._start_http(name, host, port, _url(host, port)))

    def launch_updater(self) -> None:
        """Start the history updater without waiting; raises a FlywheelError that says what is wrong."""
        with self._explained():
            self._launched.append(self._start_updater())

    def await_services(self) -> Endpoints:
        """Return the addresses of the launched services once all are ready.

        Raises a FlywheelError that says what is wrong.
        """
        with self._explained():
            where = {service.child.command.name: service.where for service in self._launched}
            self._await_all(self._launched)
            return self._write_endpoints(where["recommender"], where["collector"])

    def watch(self, stop: threading.Event) -> None:
        """Return when `stop` is set; raises ChildDied, with the end of its log, as soon as a part has ended."""
        with self._explained():
            while not stop.wait(_WATCH_S):
                self.check()

    def check(self) -> None:
        """Raise ChildDied when a part has ended, and KeyboardInterrupt again once Ctrl-C was pressed."""
        if self._interrupted:
            raise KeyboardInterrupt
        for child in (*self._stores, *self._services):
            child.check()

    def stop(self) -> None:
        """Stop all parts, services first. Harmless when repeated."""
        remove_endpoints(self.settings.home)
        for children in (self._services, self._stores):
            for child in children:
                child.terminate()
            while children:
                children.pop().stop()

    @contextmanager
    def _interrupts_noted(self) -> Iterator[None]:
        """Note Ctrl-C, whose exception a library swallows when it comes at a bad moment, in a destructor say."""

        def handle(_signal: int, _frame: FrameType | None) -> None:
            self._interrupted = True
            raise KeyboardInterrupt

        own = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else somebody else sees to it
        with _handled(handle, *([signal.SIGINT] if own else [])):
            yield

    def _start_broker(self) -> None:
        kafka, home, began = self.settings.kafka, self.settings.home, time.monotonic()
        if kafka.bootstrap_servers is None:
            cache = user_cache(self._environ)
            broker_jars(cache)
            began = self._started("jars", str(cache), began)
            broker = start_broker(home, kafka, cache, self._environ)
            self._stores.append(broker.process)
            self.settings = self.settings.model_copy(update={"kafka": broker.settings})
            self._started("broker", str(broker.settings.bootstrap_servers), began)

    def _start_valkey(self) -> None:
        began = time.monotonic()
        if self.settings.store.redis_url is None:
            valkey = start_valkey(self.settings.home, self.settings.store, self._environ)
            self._stores.append(valkey.process)
            self.settings = self.settings.model_copy(update={"store": valkey.settings})
            self._started("valkey", store_url(valkey.settings), began)

    def _make_topics(self) -> None:
        kafka, began = self.settings.kafka, time.monotonic()
        try:
            created = ensure_topics(kafka, self.settings.topics)
        except KafkaError as error:
            raise BrokerUnavailable(f"no topics could be made at {kafka.bootstrap_servers}: {error}") from error
        self._started("topics", f"{len(created)} made in namespace {self.settings.namespace}", began)

    def _start_http(self, name: str, host: str, port: int, url: str) -> _Service:
        child = self._start_command(name, "serve", name)
        return _Service(child, url, lambda: answers(host, port), time.monotonic())

    def _start_updater(self) -> _Service:
        kafka, group = self.settings.kafka, group_of(self.settings.topics.namespace)
        _, before = _group(kafka, group)
        child = self._start_command("updater", "update-history")
        return _Service(child, f"group {group}", lambda: _joined(kafka, group, before), time.monotonic())

    def _start_command(self, name: str, *arguments: str) -> ChildProcess:
        environ = {**self._environ, **settings_environ(self.settings)}
        argv = [sys.executable, "-m", "services.cli", *arguments]
        child = ChildProcess.start(Command(name, argv, environ, self.settings.home / "logs" / f"{name}.log"))
        self._services.append(child)
        return child

    def _await_all(self, launched: Sequence[_Service]) -> None:
        waiting, deadline = list(launched), time.monotonic() + _SERVICE_TIMEOUT_S
        while waiting:
            self.check()
            for service in [service for service in waiting if service.ready()]:
                waiting.remove(service)
                self._started(service.child.command.name, service.where, service.began)
            if waiting and time.monotonic() > deadline:
                waiting[0].child.wait_ready(waiting[0].ready, 0)
            time.sleep(_READY_POLL_S)

    def _write_endpoints(self, recommender: str | None, collector: str | None) -> Endpoints:
        endpoints = Endpoints(
            pid=os.getpid(),
            bootstrap_servers=str(self.settings.kafka.bootstrap_servers),
            redis_url=store_url(self.settings.store),
            recommender_url=recommender,
            collector_url=collector,
        )
        write_endpoints(self.settings.home, endpoints)
        return endpoints

    def _started(self, part: str, where: str, began: float) -> float:
        now = time.monotonic()
        self._report(Started(part, where, now - began))
        return now

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Name a full disk as the reason where it is one: a part that dies of it often cannot even log it."""
        try:
            with writing(self.settings.home):
                yield
        except (ChildDied, ChildNotReady) as error:
            if is_full(self.settings.home):
                raise full(self.settings.home) from error
            raise


def up(settings: Settings, environ: Mapping[str, str], console: Console) -> None:
    """Run the whole stack until Ctrl-C or SIGTERM; raises a FlywheelError when a part fails, the rest is stopped."""
    stop = threading.Event()
    began = time.monotonic()
    with Stack(settings, environ, printer(console)) as stack:
        stack.start_stores()
        stack.start_services()
        with _handled(lambda _signal, _frame: stop.set(), signal.SIGINT, signal.SIGTERM):
            console.print(f"ready after {time.monotonic() - began:.1f} s; Ctrl-C stops everything", highlight=False)
            stack.watch(stop)
        console.print("stopping", highlight=False)


def printer(console: Console) -> Report:
    """Return a report that prints a line for each part."""

    def report(started: Started) -> None:
        console.print(f"{started.part:<12} {started.seconds:6.1f} s  {started.where}", highlight=False)

    return report


@contextmanager
def _handled(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Have signals handled while the block runs."""
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def answers(host: str, port: int) -> bool:
    """Whether the service says that it is ready."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _joined(kafka: KafkaSettings, group: str, before: frozenset[str]) -> bool:
    """Whether the group has a member that it did not have before, and has divided its partitions."""
    state, members = _group(kafka, group)
    return state == "Stable" and bool(members - before)


def _group(kafka: KafkaSettings, group: str) -> tuple[str, frozenset[str]]:
    """Return the state and the members of a consumer group; neither is known while Kafka sets up its groups."""
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        described = admin.describe_groups([group])[group]
    except CoordinatorNotAvailableError:
        return "", frozenset()
    finally:
        admin.close()
    return described["group_state"], frozenset(member["member_id"] for member in described["members"])
