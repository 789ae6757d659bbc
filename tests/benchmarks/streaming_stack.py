"""Real parts for the benchmarks of the way in: broker and store, and commands of Flywheel as processes beside them."""

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from environ import without_settings

from features.valkey import start_valkey
from services.config import Settings
from services.environment import settings_environ
from services.stack import answers
from streaming.embedded.broker import start_broker
from streaming.embedded.java import user_cache
from streaming.embedded.ports import choose_port
from streaming.embedded.process import ChildProcess, Command
from streaming.topic_creation import ensure_topics

_READY_TIMEOUT_S = 180


@dataclass
class Parts:
    """What runs: the settings that reach it, and the processes by name."""

    settings: Settings
    held: ExitStack
    pids: dict[str, int] = field(default_factory=dict)

    def start(self, name: str, *argv: str, port: int | None = None) -> ChildProcess:
        """Start a command of Flywheel; with a `port`, wait until it says that it is ready."""
        environ = {**without_settings(), **settings_environ(self.settings)}
        log = self.settings.home / "logs" / f"{name}.log"
        command = Command(name, [sys.executable, "-m", "services.cli", *argv], environ, log)
        if port is None:
            child = ChildProcess.start(command)
        else:
            child = ChildProcess.launch(command, lambda: answers("127.0.0.1", port), _READY_TIMEOUT_S)
        self.held.callback(child.stop)
        self.pids[name] = child.pid
        return child


@contextmanager
def stores(home: Path) -> Iterator[Parts]:
    """Start broker and Valkey under `home`, with their topics; all is stopped in the end."""
    with ExitStack() as held:
        settings = Settings(home=home)
        broker = start_broker(home, settings.kafka, user_cache(os.environ), without_settings())
        held.callback(broker.stop)
        valkey = start_valkey(home, settings.store, without_settings())
        held.callback(valkey.stop)
        ports = {name: choose_port(None, "no port of anybody") for name in ("collector_port", "recommender_port")}
        settings = settings.model_copy(
            update={
                "kafka": broker.settings,
                "store": valkey.settings.under(home),
                "model": settings.model.under(home),
                "serving": settings.serving.model_copy(update=ports),
            }
        )
        ensure_topics(settings.kafka, settings.topics)
        yield Parts(settings, held, {"broker": broker.process.pid, "valkey": valkey.process.pid})
