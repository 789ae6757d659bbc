"""`/metrics` and `/livez` of the processes that are no HTTP services: the history updater and the lander."""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import ThreadingWSGIServer, make_wsgi_app

from streaming.embedded.ports import PortBusy

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@contextmanager
def metrics_server(
    host: str, port: int | None, registry: CollectorRegistry, alive: Callable[[], bool]
) -> Iterator[int | None]:
    """Answer at `port` (0 = a free one, None = not at all) while the block runs; yields the port.

    `/livez` answers 503 when `alive` says no. Raises PortBusy.
    """
    if port is None:
        yield None
        return
    kind = _OnIpv6 if ":" in host else ThreadingWSGIServer
    try:
        server = make_server(host, port, _application(registry, alive), kind, handler_class=_Silent)
    except OSError as error:
        raise PortBusy(
            f"cannot listen on {host}:{port}: {error.strerror}; change or unset FLYWHEEL_SERVING__METRICS_PORT"
        ) from error
    thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _OnIpv6(ThreadingWSGIServer):
    address_family = socket.AF_INET6


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing: a line each time that Prometheus asks helps nobody."""


def _application(registry: CollectorRegistry, alive: Callable[[], bool]) -> "WSGIApplication":
    metrics: WSGIApplication = make_wsgi_app(registry)

    def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)
        status = "404 Not Found"
        if path == "/livez":
            status = "200 OK" if alive() else "503 Service Unavailable"
        start_response(status, [("content-type", "text/plain; charset=utf-8")])
        return [status.encode() + b"\n"]

    return application
