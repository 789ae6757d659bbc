"""Turning this process into a BentoML server of one of the services."""

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NoReturn

from features.config import store_url
from services.api.auth import Gate, refuse_open_bind
from services.config import Settings
from services.environment import bentoml_environ
from services.recommend.surfaces_file import SurfacesFile
from services.spooling import event_spool, impression_spool
from streaming.config import client_options
from streaming.errors import FlywheelError
from streaming.marks import Marker
from streaming.namespace import Namespace

ServiceName = Literal["recommender", "collector"]

_WORKER = "_bentoml_impl.worker.service"
_BACKLOG = 2_048


class PortTaken(FlywheelError):
    """The port of a service cannot be listened on."""


def serve(name: ServiceName, settings: Settings, environ: Mapping[str, str]) -> NoReturn:
    """Replace this process by the server of a service; it ends with the signal that ends it.

    One worker is served by itself: whoever started the process supervises it. Several have a supervisor.
    What would only come out in the worker is checked before. Raises KeysRequired when the settings would open the
    service without keys, KeyFileBroken, SurfacesBroken, BrokerAddressMissing, ErasureKeyMissing, PlaceMissing,
    SpoolUnusable and PortTaken.
    """
    serving = settings.serving
    refuse_open_bind(serving)
    Gate(serving.api_keys_file, Namespace(settings.namespace), time.monotonic)
    client_options(settings.kafka)
    Marker(settings.kafka, Namespace(settings.namespace))
    if name == "recommender":
        store_url(settings.store)
        SurfacesFile(serving.surfaces_file, serving.task_weights, time.monotonic)
    place = impression_spool(settings) if name == "recommender" else event_spool(settings)
    if place is not None:
        place.claim().close()
    port = serving.recommender_port if name == "recommender" else serving.collector_port
    workers = serving.recommender_workers if name == "recommender" else serving.collector_workers
    # With an arena for each thread, glibc keeps several times what the threads that read the log have freed.
    environment = {"MALLOC_ARENA_MAX": "2", **environ, **_bentoml_environment(name, settings.home, workers)}
    arguments = ["-m", _WORKER, f"services.{name}:{name}", "--backlog", str(_BACKLOG)]
    # Also where several sockets are to share the port: they would share it with those of another service as well.
    listening = _listen(serving.host, port or 0)
    host, port = listening.getsockname()[:2]
    sys.stdout.write(f"{name} listens on http://{host}:{port}\n")
    sys.stdout.flush()
    if workers > 1:
        from services.workers import supervise  # noqa: PLC0415 - BentoML takes a second to import, which one need not

        listening.close()
        supervise(arguments, workers, (host, port), environment)
        sys.exit(0)
    listening.set_inheritable(True)
    os.execve(sys.executable, [sys.executable, *arguments, "--fd", str(listening.fileno())], environment)  # noqa: S606


def _bentoml_environment(name: ServiceName, home: Path, workers: int) -> dict[str, str]:
    metrics = home / "run" / f"metrics-{name}"
    shutil.rmtree(metrics, ignore_errors=True)
    metrics.mkdir(parents=True, exist_ok=True)
    return {
        **bentoml_environ(home),
        "BENTOML_CONFIG_OVERRIDES": json.dumps({"services": {name: {"workers": workers}}}),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
    }


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}; choose another port") from error
    listening.listen(_BACKLOG)
    return listening
