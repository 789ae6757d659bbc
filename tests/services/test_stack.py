import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest
from environ import without_settings
from kafka.admin import KafkaAdminClient
from pydantic import SecretStr
from waiting import wait_until

from features.config import StoreSettings
from services.config import Settings, load_settings
from services.endpoints import read_endpoints
from services.environment import settings_environ
from services.home import AlreadyRunning, HomeUnusable, held
from services.stack import Stack, Started
from streaming.config import KafkaSettings, client_options
from streaming.embedded.process import ChildDied
from streaming.namespace import Namespace
from streaming.topics import Topics

_FLYWHEEL = [sys.executable, "-m", "services.cli"]


def _environ(home: Path, **more: str) -> dict[str, str]:
    kept = without_settings()
    return {**kept, "FLYWHEEL_HOME": str(home), **more}


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE  # and is not a later one of its number
    except psutil.NoSuchProcess:
        return False


def _left(parts: list[psutil.Process]) -> str:
    return f"still there: {[part.cmdline()[-4:] for part in parts if _runs(part)]}"


@contextmanager
def _up(home: Path) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process], Callable[[], str]]]:
    """Run `flywheel up`: the process once it is ready, its descendants, and a function that reads what it printed."""
    output = home.with_suffix(".out")
    with output.open("w") as file:
        process = subprocess.Popen([*_FLYWHEEL, "up"], env=_environ(home), stderr=file, stdout=file, text=True)
    try:
        wait_until(lambda: "ready after" in output.read_text() or process.poll() is not None, 180, output.read_text)
        assert process.poll() is None, output.read_text()
        yield process, psutil.Process(process.pid).children(recursive=True), output.read_text
    finally:
        process.kill()
        process.wait()


def test_up_serves_refuses_a_second_one_and_dies_as_a_whole(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with _up(home) as (process, parts, printed):
        assert len(parts) >= 5
        for part in ("broker", "valkey", "topics", "recommender", "collector", "updater"):
            assert part in printed()
        running = read_endpoints(home)
        assert running is not None
        assert running.pid == process.pid
        assert httpx.get(f"{running.recommender_url}/readyz").status_code == 200

        second = subprocess.run([*_FLYWHEEL, "up"], env=_environ(home), capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"a stack already runs on {home} (process {process.pid})" in second.stderr
        assert "Traceback" not in second.stderr

        process.kill()
        wait_until(lambda: not any(_runs(part) for part in parts), 60, lambda: _left(parts))

    # The same home again, right after the kill: nothing of the first run may stand in the way.
    with _up(home) as (process, parts, printed):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0, printed()
        assert not any(_runs(part) for part in parts)
        assert read_endpoints(home) is None


def test_ctrl_c_while_the_stack_starts_leaves_nothing(tmp_path: Path) -> None:
    argv = [*_FLYWHEEL, "up"]
    process = subprocess.Popen(argv, env=_environ(tmp_path), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("broker"):
                break
        parts = psutil.Process(process.pid).children(recursive=True)
        assert "java" in [part.name() for part in parts]
        process.send_signal(signal.SIGINT)
        process.wait(120)
        rest = process.stderr.read()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert not any(_runs(part) for part in parts)


def test_an_interrupt_that_a_library_has_swallowed_is_raised_again(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a Spark session that is gone leaves its own
    try:
        with Stack(Settings(home=tmp_path), _environ(tmp_path), lambda _: None) as stack:
            stack.check()
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                stack.check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_crashed_part_is_reported_with_its_log_and_the_rest_stops(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    started: list[Started] = []
    others = set(psutil.Process().children())  # the servers that all tests share
    with Stack(settings, _environ(tmp_path), started.append) as stack:
        stack.start_stores()
        assert [part.part for part in started] == ["jars", "broker", "valkey", "topics"]
        processes = {child.name(): child for child in set(psutil.Process().children()) - others}
        broker, valkey = processes["java"], processes["valkey-server"]
        valkey.kill()
        with pytest.raises(
            ChildDied, match=r"(?s)valkey was killed by SIGKILL; the end of .*valkey\.log:\n.*Ready to accept"
        ):
            stack.watch(threading.Event())
        assert _runs(broker)
    assert not _runs(broker)
    assert read_endpoints(tmp_path) is None


def test_parts_that_are_elsewhere_are_not_started(
    tmp_path: Path, broker: KafkaSettings, valkey: StoreSettings, namespace: Namespace
) -> None:
    settings = Settings(home=tmp_path, namespace=namespace, kafka=broker, store=valkey)
    started: list[Started] = []
    with Stack(settings, _environ(tmp_path), started.append) as stack:
        assert stack.start_stores() == settings
        running = read_endpoints(tmp_path)
        assert running is not None
        assert running.bootstrap_servers == broker.bootstrap_servers
    assert [part.part for part in started] == ["topics"]
    admin = KafkaAdminClient(**client_options(broker))
    try:
        assert Topics(namespace).interactions in admin.list_topics()
    finally:
        admin.close()


def test_a_home_is_held_by_one_stack(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(AlreadyRunning, match=rf"process {os.getpid()}.*FLYWHEEL_HOME"), held(tmp_path):
        pass
    with held(tmp_path):
        pass


def test_a_busy_configured_port_is_a_clear_error(tmp_path: Path, broker: KafkaSettings) -> None:
    port = str(broker.bootstrap_servers).rpartition(":")[2]
    environ = _environ(tmp_path, FLYWHEEL_KAFKA__PORT=port)
    done = subprocess.run([*_FLYWHEEL, "up"], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 cannot be used (Address already in use)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_that_takes_no_large_file_is_one_clear_sentence(tmp_path: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(
        [*_FLYWHEEL, "up"], env=_environ(tmp_path), capture_output=True, text=True, check=False, preexec_fn=limit
    )
    assert done.returncode == 1
    assert f"flywheel: the home folder {tmp_path} cannot be written (File too large): make room" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_home_below_a_file_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    with (
        pytest.raises(HomeUnusable, match=rf"the home folder {home} cannot be written \(Not a directory\)"),
        held(home),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_when_a_part_dies_of_it(tmp_path: Path) -> None:
    """In a private mount namespace, on a disk of 160 MB that is filled while the broker runs."""
    code = """
        import os, pathlib, sys, threading
        from services.config import Settings
        from services.home import HomeUnusable
        from services.stack import Stack
        from streaming.producer import EventProducer, NotDurable
        from streaming.events import ItemRemoved

        home = pathlib.Path(sys.argv[1])
        padding = os.urandom(9_000).hex()
        try:
            with Stack(Settings(home=home), os.environ, lambda started: None) as stack:
                settings = stack.start_stores()
                with (home / "filler").open("wb", buffering=0) as filler:
                    try:
                        while filler.write(b"x" * 4096):
                            pass
                    except OSError:
                        pass
                producer = EventProducer(settings.kafka, settings.topics, delivery_timeout_ms=5_000)
                try:
                    producer.publish(
                        ItemRemoved(
                            event_id=str(n), happened_at=1, received_at=1, producer=f"{n}{padding}", item_id=str(n)
                        )
                        for n in range(3_000)
                    )
                except NotDurable:
                    pass
                stack.watch(threading.Event())
        except HomeUnusable as error:
            print(error, flush=True)
            os._exit(1)
    """
    script = tmp_path / "fill.py"
    script.write_text(textwrap.dedent(code))
    home = tmp_path / "home"
    home.mkdir()
    shell = 'mount -t tmpfs -o size=160m none "$0" && exec "$1" "$2" "$0"'
    argv = ["unshare", "--mount", "sh", "-c", shell, str(home), sys.executable, str(script)]
    done = subprocess.run(argv, env=_environ(home), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1, done.stderr
    assert f"the home folder {home} cannot be written (No space left on device): make room" in done.stdout


def test_another_process_loads_the_very_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.model_validate(
        {
            "namespace": "shop",
            "home": tmp_path,
            "kafka": {"bootstrap_servers": "a:1,b:2", "partitions": 7, "security_protocol": "SSL"},
            "store": {"redis_url": SecretStr("redis://user:secret@host/0")},
            "lake": {"trigger_seconds": 5},
            "model": {"seed": 11, "retrieval": {"dropout": 0.5}},
            "serving": {"collector_port": 4711, "api_keys_file": tmp_path / "keys.json"},
        }
    )
    for name, value in settings_environ(settings).items():
        monkeypatch.setenv(name, value)
    assert load_settings() == settings


def test_settings_at_their_defaults_need_no_variable(tmp_path: Path) -> None:
    assert json.loads(json.dumps(settings_environ(Settings(home=tmp_path)))) == {"FLYWHEEL_HOME": str(tmp_path)}
