"""Checks of this machine's part: the home folder and the services."""

import time
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from services.api.auth import Gate, refuse_open_bind
from services.config import Settings
from services.doctor.check import Check, Expected, Failed, check
from services.endpoints import Endpoints
from services.home import usable
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_SEE_MESSAGE = Expected((FlywheelError,), "see the message")


def checks(settings: Settings, running: Endpoints | None) -> Iterator[Check]:
    """Check the home, who may call the services, and those that run on the home."""
    yield check("home", lambda: _home(settings), _SEE_MESSAGE)
    yield check("access", lambda: _access(settings), _SEE_MESSAGE)
    if running is not None:
        for name, url in (("recommender", running.recommender_url), ("collector", running.collector_url)):
            if url is not None:
                fix = f"look into {settings.home / 'logs' / f'{name}.log'}"
                yield check(name, partial(_ready, url), Expected((OSError, HTTPException), fix))


def _home(settings: Settings) -> str:
    usable(settings.home)
    return f"{settings.home} can be written and has room"


def _access(settings: Settings) -> str:
    serving = settings.serving
    refuse_open_bind(serving)
    if serving.api_keys_file is None:
        return f"no keys; the services listen on {serving.host} only"
    Gate(serving.api_keys_file, Namespace(settings.namespace), time.monotonic)
    return f"keys from {serving.api_keys_file}"


def _ready(url: str) -> str:
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        text = response.read(500).decode(errors="replace")
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise Failed(f"{url} is not ready: {text}", "wait, or look at the parts named there")
    return f"{url} is ready"
