"""Which web pages of other origins may send what: to public routes, and only from origins that the settings name."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from services.api.auth import Scope
from services.api.routes import Route

_AsgiApp = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
_PREFLIGHT_KEPT_S = 600


class CrossOrigin:
    """An ASGI app that tells browsers, for public routes, whether a page of another origin may call and read them."""

    def __init__(self, app: _AsgiApp, routes: Sequence[Route], origins: Sequence[str]) -> None:
        """`origins` such as `https://shop.example`; without any, browsers let no other page call `app`."""
        self._app = app
        self._public = frozenset(route.path for route in routes if route.scope is Scope.WRITE_PUBLIC and origins)
        self._sharing = CORSMiddleware(
            app,
            allow_origins=origins,
            allow_methods=["POST"],
            allow_headers=["authorization", "content-type"],
            expose_headers=["retry-after"],
            max_age=_PREFLIGHT_KEPT_S,
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        app = self._sharing if scope["path"] in self._public else self._app
        await app(scope, receive, send)
