"""Child processes that are proven ready, are stopped with their children, and never outlive their parent."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from streaming.errors import FlywheelError

_POLL_S = 0.05
_LOCK_TIMEOUT_S = 20
_LOG_LIMIT_BYTES = 20_000_000
_TAIL_BYTES = 65_536

# Runs in the child before the program: the kernel sends SIGTERM to it when the thread that started it ends, even by
# SIGKILL (prctl PR_SET_PDEATHSIG, which survives exec). The parent may have died before that call: hence the check.
_GUARD = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGTERM)
if os.getppid() != int(sys.argv[1]): sys.exit("the parent is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ChildDied(FlywheelError):
    """A child process ended by itself; the message ends with the last lines of its log."""


class ChildNotReady(FlywheelError):
    """A child process was not ready in time; the message ends with the last lines of its log."""


class StillRunning(FlywheelError):
    """Another run of the same program holds its data."""


@dataclass(frozen=True)
class Command:
    """What to run: a name for people, the program and its arguments, its environment, and the file of its output.

    `lock` is a file that the program holds for as long as it runs, so that two never work on the same data.
    """

    name: str
    argv: Sequence[str]
    environ: Mapping[str, str]
    log: Path
    lock: Path | None = None


class ChildProcess:
    """A running child with a process group of its own, so that a Ctrl-C reaches only the parent, which stops it."""

    def __init__(self, command: Command, process: subprocess.Popen[bytes], log_start: int) -> None:
        self.command = command
        self._process = process
        self._log_start = log_start

    @classmethod
    def start(cls, command: Command) -> Self:
        """Start the program; its output is appended to its log. One that is about to end is waited for.

        Raises StillRunning when another run holds the lock, and ValueError off the main thread: the child would be
        stopped when the thread that started it ends.
        """
        if threading.current_thread() is not threading.main_thread():
            raise ValueError(f"{command.name} must be started from the main thread")
        command.log.parent.mkdir(parents=True, exist_ok=True)
        _rotate(command.log)
        guarded = [sys.executable, "-I", "-S", "-c", _GUARD, str(os.getpid()), *command.argv]
        with command.log.open("ab") as log, _held(command) as locks:
            start = log.tell()
            process = subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(command.environ),
                start_new_session=True,
                pass_fds=locks,
            )
        return cls(command, process, start)

    @classmethod
    def launch(cls, command: Command, ready: Callable[[], bool], timeout_s: float) -> Self:
        """Start the program and wait until `ready` says so; on any failure nothing is left running.

        Raises ChildDied or ChildNotReady.
        """
        with ExitStack() as on_failure:
            child = cls.start(command)
            on_failure.callback(child.stop)
            child.wait_ready(ready, timeout_s)
            on_failure.pop_all()
        return child

    @property
    def pid(self) -> int:
        """The process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the program has not ended."""
        return self._process.poll() is None

    def wait_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Ask `ready` again and again until it is true; raises ChildDied or ChildNotReady."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise ChildNotReady(f"{self.command.name} was not ready after {timeout_s:.0f} s{self._last_words()}")
            time.sleep(_POLL_S)

    def check(self) -> None:
        """Raise ChildDied when the program has ended."""
        code = self._process.poll()
        if code is not None:
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise ChildDied(f"{self.command.name} {how}{self._last_words()}")

    def tail(self, lines: int) -> list[str]:
        """Return the last lines of what this run has written to its log."""
        with self.command.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-lines:]

    def terminate(self) -> None:
        """Ask the program to end, without waiting."""
        with suppress(ProcessLookupError):
            self._process.terminate()

    def stop(self, timeout_s: float = 20) -> None:
        """End the program, by force after `timeout_s`, and whatever it has left running. Harmless when repeated."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _last_words(self) -> str:
        lines = "".join(f"\n  {line}" for line in self.tail(20)) or " (nothing)"
        return f"; the end of {self.command.log}:{lines}"


@contextmanager
def _held(command: Command) -> Iterator[list[int]]:
    """Take the command's lock and yield its descriptor: the program inherits it, and with it the lock."""
    if command.lock is None:
        yield []
        return
    command.lock.parent.mkdir(parents=True, exist_ok=True)
    with command.lock.open("w") as file:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise StillRunning(f"another {command.name} works on {command.lock.parent}: stop it first")
            time.sleep(_POLL_S)
        yield [file.fileno()]


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > _LOG_LIMIT_BYTES:
        log.replace(log.with_suffix(".old.log"))
