"""The seam to BentoML: a service whose routes are answered in front of BentoML's per-request middlewares.

`Service.to_asgi` and `Service.__call__` are BentoML's own and not documented for overriding, so its version is pinned
and `tests/contracts/test_bentoml_seam.py` checks what is relied on.
"""

from typing import Any

from _bentoml_sdk import Service

from services.api.front import AsgiApp, Front

QUIET: dict[str, Any] = {
    "workers": 1,
    "traffic": {"timeout": 30},
    "logging": {"access": {"enabled": False}},
}
"""BentoML's configuration of our services: limits and logs of requests are the front's work."""


class FrontedService(Service):
    """A BentoML service whose inner class has an attribute `application`, which the front answers for."""

    def to_asgi(self, is_main: bool = True) -> AsgiApp:
        """Return the ASGI app that a BentoML worker serves."""
        self._front = Front(super().to_asgi(is_main=is_main))
        return self._front

    def __call__(self) -> Any:
        """Create the service's instance, once in each worker, and let the front answer for it."""
        instance = super().__call__()
        self._front.open(instance.application)
        return instance
