"""The seam to BentoML: a service whose routes are answered in front of BentoML's per-request middlewares.

`Service.to_asgi` and `Service.__call__` are BentoML's own and not documented for overriding, so its version is pinned
and `tests/contracts/test_bentoml_seam.py` checks what is relied on.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import bentoml
from _bentoml_sdk import Service

from services.api.front import Application, AsgiApp, Front

QUIET: dict[str, Any] = {
    "workers": 1,
    "traffic": {"timeout": 30},
    "logging": {"access": {"enabled": False}},
}
"""BentoML's configuration of our services: limits and logs of requests are the front's work."""

_REFRESH_S = 5.0


def hosted(build: Callable[[], Application]) -> type:
    """Return the inner class of a service: it builds its application in each worker and gives it its life."""

    class Hosted:
        def __init__(self) -> None:
            self.application = build()
            self.next_refresh: asyncio.TimerHandle | None = None

        @bentoml.on_startup  # type: ignore[untyped-decorator]
        async def start(self) -> None:
            await self.application.start()
            self.refresh()

        @bentoml.on_shutdown  # type: ignore[untyped-decorator]
        async def stop(self) -> None:
            if self.next_refresh is not None:
                self.next_refresh.cancel()
            await self.application.stop()

        def refresh(self) -> None:
            """Set the worker's gauges now and then: /metrics asks any of the workers for all of them."""
            # First, so that an error, which the loop logs, ends nothing.
            self.next_refresh = asyncio.get_running_loop().call_later(_REFRESH_S, self.refresh)
            self.application.refresh_metrics()

    return Hosted


class FrontedService(Service):
    """A BentoML service whose inner class is `hosted`; the front answers for its application."""

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """Return the ASGI app that a BentoML worker serves."""
        self._front = Front(super().to_asgi(is_main=is_main))
        return self._front

    def __call__(self) -> Any:
        """Create the service's instance, once in each worker, and let the front answer for it."""
        instance = super().__call__()
        self._front.open(instance.application)
        return instance
