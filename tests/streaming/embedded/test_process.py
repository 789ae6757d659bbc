import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from waiting import wait_until

from streaming.embedded.process import ChildDied, ChildNotReady, ChildProcess, Command, StillRunning


def _command(tmp_path: Path, code: str) -> Command:
    return Command(
        name="part", argv=[sys.executable, "-u", "-c", code], environ=os.environ, log=tmp_path / "logs" / "part.log"
    )


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_child_is_ready_when_its_probe_says_so(tmp_path: Path) -> None:
    proof = tmp_path / "ready"
    code = f"import pathlib, signal; pathlib.Path({str(proof)!r}).touch(); signal.pause()"
    with ChildProcess.launch(_command(tmp_path, code), proof.exists, 20) as child:
        assert proof.exists()
        assert child.running
    assert not child.running


def test_a_crash_is_reported_with_the_end_of_the_log_of_this_run(tmp_path: Path) -> None:
    command = _command(tmp_path, "print('the last words'); raise SystemExit(3)")
    command.log.parent.mkdir()
    command.log.write_text("words of an earlier run\n")
    with pytest.raises(ChildDied, match=r"part ended with exit code 3; the end of .*part\.log:\n  the last words$"):
        ChildProcess.launch(command, lambda: False, 20)
    assert command.log.read_text().startswith("words of an earlier run\n")


def test_a_killed_child_is_reported_by_its_signal(tmp_path: Path) -> None:
    with ChildProcess.start(_command(tmp_path, "import signal; signal.pause()")) as child:
        os.kill(child.pid, signal.SIGKILL)
        wait_until(lambda: not child.running)
        with pytest.raises(ChildDied, match="part was killed by SIGKILL"):
            child.check()


def test_a_child_that_is_not_ready_in_time_is_stopped_and_reported(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, pathlib, signal; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); signal.pause()"
    with pytest.raises(ChildNotReady, match="part was not ready after 1 s"):
        ChildProcess.launch(_command(tmp_path, code), lambda: False, 1)
    assert _gone(int(pid_file.read_text()))


def test_a_missing_program_is_reported(tmp_path: Path) -> None:
    command = Command("part", ["/nonexistent/program"], os.environ, tmp_path / "part.log")
    with pytest.raises(ChildDied, match="No such file or directory"):
        ChildProcess.launch(command, lambda: False, 20)


def test_a_child_that_ignores_the_request_to_end_is_ended_with_its_own_children(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"""
import pathlib, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
grandchild = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path({str(pid_file)!r}).write_text(str(grandchild.pid))
signal.pause()
"""
    child = ChildProcess.launch(_command(tmp_path, code), lambda: pid_file.exists() and bool(pid_file.read_text()), 20)
    child.stop(timeout_s=0.2)
    wait_until(lambda: _gone(int(pid_file.read_text())))
    assert not child.running
    child.stop()


def test_killing_the_parent_leaves_no_child(tmp_path: Path) -> None:
    parent_code = f"""
import os, pathlib, sys
from streaming.embedded.process import ChildProcess, Command
code = "import signal; print('up', flush=True); signal.pause()"
command = Command("part", [sys.executable, "-c", code], os.environ, pathlib.Path({str(tmp_path)!r}) / "part.log")
child = ChildProcess.start(command)
child.wait_ready(lambda: child.tail(1) == ["up"], 20)
print(child.pid, flush=True)
sys.stdin.read()
"""
    argv, pipe = [sys.executable, "-c", parent_code], subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert psutil.pid_exists(pid)
        parent.kill()
    wait_until(lambda: _gone(pid))


def test_two_runs_never_work_on_the_same_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.embedded.process._LOCK_TIMEOUT_S", 0.2)
    command = replace(_command(tmp_path, "import signal; signal.pause()"), lock=tmp_path / "data" / "lock")
    with ChildProcess.start(command), pytest.raises(StillRunning, match=rf"another part works on {tmp_path}/data"):
        ChildProcess.start(command)
    with ChildProcess.start(command) as again:
        assert again.running


def test_a_child_is_not_started_from_a_thread_that_may_end_before_it(tmp_path: Path) -> None:
    errors: list[ValueError] = []

    def start() -> None:
        try:
            ChildProcess.start(_command(tmp_path, "pass"))
        except ValueError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [str(error) for error in errors] == ["part must be started from the main thread"]
