"""The system under fault: broker and store behind proxies, collector, history updater and lander as processes.

What dies is started again, as an orchestrator would do; `restarts` counts it.
"""

import os
import random
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from environ import without_settings
from fault_audit import Auditor
from fault_proxy import LOOPBACK, Proxy
from pydantic import SecretStr
from waiting import wait_until

from features.config import StoreSettings
from features.valkey import Valkey, start_valkey
from services.config import Settings
from services.environment import settings_environ
from services.stack import answers
from streaming.config import KafkaSettings
from streaming.embedded.broker import Broker, start_broker
from streaming.embedded.java import user_cache
from streaming.embedded.process import ChildProcess, Command
from streaming.topic_creation import ensure_topics


def wait_for(what: str, condition: Callable[[], bool], seconds: float, meanwhile: Callable[[], None]) -> float:
    """Return after how many seconds `condition` held, doing `meanwhile` again and again; AssertionError if never."""

    def held() -> bool:
        if condition():
            return True
        meanwhile()
        return False

    began = time.monotonic()
    wait_until(held, seconds, lambda: what)
    return time.monotonic() - began


@dataclass(frozen=True)
class Ports:
    """Where the parts listen; clients of broker and store know the proxies' ports alone."""

    broker: int
    broker_proxy: int
    store: int
    store_proxy: int
    collector: int


def choose_ports() -> Ports:
    """Return free ports."""
    held = [socket.socket() for _ in range(5)]
    try:
        for one in held:
            one.bind((LOOPBACK, 0))
        return Ports(*(one.getsockname()[1] for one in held))
    finally:
        for one in held:
            one.close()


class World:
    """Everything on one home folder. Used as a context manager from the main thread; leaving it stops all."""

    def __init__(self, home: Path, namespace: str, rng: random.Random) -> None:
        self.home, self.rng = home, rng
        self.ports = choose_ports()
        self.restarts: Counter[str] = Counter()
        self.clock_offset = home / "clock_offset"
        self._children: dict[str, ChildProcess] = {}
        kafka = KafkaSettings(port=self.ports.broker, bootstrap_servers=f"{LOOPBACK}:{self.ports.broker_proxy}")
        store = StoreSettings(redis_url=SecretStr(f"redis://{LOOPBACK}:{self.ports.store_proxy}/0"))
        settings = Settings(namespace=namespace, home=home, kafka=kafka, store=store)
        serving = settings.serving.model_copy(
            update={"collector_port": self.ports.collector, "acknowledge_deadline_ms": 1_500}
        )
        lake = settings.lake.model_copy(update={"trigger_seconds": 2})
        self.settings = settings.model_copy(update={"serving": serving, "lake": lake})

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        self.broker_proxy = Proxy(self.ports.broker_proxy, self.ports.broker)
        self.store_proxy = Proxy(self.ports.store_proxy, self.ports.store)
        self.broker = self._start_broker()
        self.settings = self.settings.model_copy(update={"kafka": self.broker.settings})
        self.store = self._start_store()
        ensure_topics(self.settings.kafka, self.settings.topics)
        for name in ("collector", "updater", "lander"):
            self.start(name)
        self.await_collector(180)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self._children.values():
            self.signal(child.command.name, signal.SIGCONT)
            child.terminate()
        for child in self._children.values():
            child.stop()
        for server in (self.broker, self.store):
            os.killpg(server.process.pid, signal.SIGCONT)
            server.stop()
        self.broker_proxy.close()
        self.store_proxy.close()

    @property
    def collector_url(self) -> str:
        """Where events are sent."""
        return f"http://{LOOPBACK}:{self.ports.collector}"

    @property
    def environ(self) -> dict[str, str]:
        """The environment of a process that works on this world, with the machine's own clock."""
        return {**without_settings(), **settings_environ(self.settings)}

    def auditor(self) -> Auditor:
        """Start an auditor of this world."""
        return Auditor(self.environ, self.home / "logs" / "auditor.log")

    def pid(self, name: str) -> int:
        """Return the process id, which is its group's, of a part."""
        servers: dict[str, Broker | Valkey] = {"broker": self.broker, "store": self.store}
        return servers[name].process.pid if name in servers else self._children[name].pid

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to all processes of a part, if it has not ended."""
        try:
            os.killpg(self.pid(name), number)
        except ProcessLookupError:
            return

    def start(self, name: str) -> None:
        """Start a part."""
        if name == "broker":
            self.broker = self._start_broker()
        elif name == "store":
            self.store = self._start_store()
        else:
            self._children[name] = self.command(name)

    def command(self, name: str, *more: str) -> ChildProcess:
        """Start the command that a part is, with arguments, under its name."""
        argv = {"collector": ("serve", "collector"), "updater": ("update-history",), "lander": ("land",)}[name]
        clock = {
            "PYTHONPATH": str(Path(__file__).parent / "clock"),
            "FAULTS_CLOCK_OFFSET_FILE": str(self.clock_offset),
        }
        environ = self.environ | clock
        log = self.home / "logs" / f"{name}{'-'.join(('', *more))}.log"
        return ChildProcess.start(Command(name, [sys.executable, "-m", "services.cli", *argv, *more], environ, log))

    def tend(self) -> None:
        """Start again what has ended."""
        for name, child in list(self._children.items()):
            if not child.running:
                self.restarts[name] += 1
                child.stop()
                self.start(name)

    def end(self, name: str) -> None:
        """Have a part drain and end, for good."""
        child = self._children.pop(name)
        child.stop(60)

    def await_collector(self, seconds: float) -> float:
        """Return after how long the collector answers, has emptied its spool and sends to the broker at once."""
        return wait_for("the collector sends to the broker at once", self._sends_at_once, seconds, self.tend)

    def _sends_at_once(self) -> bool:
        if not answers(LOOPBACK, self.ports.collector):
            return False
        try:
            checks = httpx.get(f"{self.collector_url}/readyz", timeout=5).json()["checks"]
        except httpx.HTTPError:
            return False
        return bool(checks["broker"] and checks["producer"])

    def _start_broker(self) -> Broker:
        cache = user_cache(os.environ)
        return start_broker(self.home, self.settings.kafka, cache, without_settings(), self.ports.broker_proxy)

    def _start_store(self) -> Valkey:
        settings = self.settings.store.model_copy(update={"port": self.ports.store})
        return start_valkey(self.home, settings, without_settings())
