"""Several workers of a service under BentoML's supervisor, each with a listening socket of its own.

With one socket for all of them, as `bentoml serve` makes it, the worker that wakes first takes every connection that
came at once, and keeps it. The kernel spreads connections over the sockets of one port (SO_REUSEPORT, Linux 3.9).
"""

import shlex
import socket
import sys
from collections.abc import Mapping, Sequence

from bentoml._internal.utils.circus import create_standalone_arbiter
from circus.sockets import CircusSocket
from circus.watcher import Watcher

_FOR_EVER_S = 86_400  # whoever started the service says how long its end may take
_SOCKET = "http"


def supervise(worker: Sequence[str], workers: int, address: tuple[str, int], environ: Mapping[str, str]) -> None:
    """Run so many processes of Python with the arguments `worker` until a signal ends this one.

    To the arguments `--fd` and the number of its socket are added, and `--worker-id` and its own. One that dies is
    started again. `environ` is all that they get.
    """
    host, port = address
    # From a configuration, of which each worker's socket is made anew.
    listening = CircusSocket.load_from_config(
        {
            "name": _SOCKET,
            "host": host,
            "port": port,
            "family": "AF_INET6" if ":" in host else "AF_INET",
            "backlog": socket.SOMAXCONN,
            "so_reuseport": True,
        }
    )
    watcher = Watcher(
        name="service",
        # A socket is looked for in the command alone, not in its arguments.
        cmd=f"{shlex.join([sys.executable, *worker])} --fd $(circus.sockets.{_SOCKET}) --worker-id $(circus.wid)",
        numprocesses=workers,
        env=dict(environ),
        copy_env=False,
        use_sockets=True,
        stop_children=True,
        respawn=True,
        graceful_timeout=_FOR_EVER_S,
    )
    create_standalone_arbiter([watcher], sockets=[listening]).start()
