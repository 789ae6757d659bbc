"""Applications served over real sockets, in this process."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest
import uvicorn

from services.api.front import Application, Front

Serve = Callable[[Application], AbstractContextManager[httpx.Client]]


def with_life(application: Application) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """An ASGI app that starts and stops the application as BentoML's worker does; behind the front is nothing."""

    async def behind(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await application.start()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await application.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"behind"})

    front = Front(behind)
    front.open(application)
    return front


@contextmanager
def served(application: Application) -> Iterator[httpx.Client]:
    """Serve an application on a free port of loopback; yields a client for it."""
    config = uvicorn.Config(with_life(application), host="127.0.0.1", port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    listening = config.bind_socket()
    listening.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    port = listening.getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serve() -> Serve:
    """Serve an application for the length of a with block."""
    return served
