"""Calls the two services over HTTP, as an application would."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from streaming.errors import FlywheelError
from streaming.ids import ItemId

_STEPS_PER_CALL = 500


class CallFailed(FlywheelError):
    """A service answered with an error or not at all."""


class ApiClient:
    """A client of the recommender and the collector; bodies and answers are those of the OpenAPI document."""

    def __init__(self, recommender_url: str, collector_url: str, timeout_s: float = 60.0) -> None:
        self._recommender = httpx.Client(base_url=recommender_url, timeout=timeout_s)
        self._collector = httpx.Client(base_url=collector_url, timeout=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recommender.close()
        self._collector.close()

    def recommend(self, **body: Any) -> dict[str, Any]:
        """Ask for a slate."""
        return self._call(self._recommender, "POST", "/v1/recommend", body)

    def similar(self, **body: Any) -> dict[str, Any]:
        """Ask for items like one."""
        return self._call(self._recommender, "POST", "/v1/similar", body)

    def send_event(self, **body: Any) -> dict[str, Any]:
        """Send an interaction; returns once Kafka has acknowledged it."""
        return self._call(self._collector, "POST", "/v1/events", body)

    def add_item(self, **body: Any) -> dict[str, Any]:
        """Add an item to the catalogue, or change it."""
        return self._call(self._collector, "POST", "/v1/items", body)

    def remove_item(self, item_id: ItemId) -> dict[str, Any]:
        """Take an item out of the catalogue."""
        return self._call(self._collector, "DELETE", f"/v1/items/{item_id}", None)

    def evaluate(
        self, steps: Sequence[dict[str, Any]], progress: Callable[[int], None] = lambda _: None
    ) -> list[dict[str, Any]]:
        """Answer `steps` in order in an evaluation of their own, which neither logs nor writes anything."""
        started = self._call(self._recommender, "POST", "/v1/evaluations", None)
        path = f"/v1/evaluations/{started['evaluation_id']}"
        slates: list[dict[str, Any]] = []
        for first in range(0, len(steps), _STEPS_PER_CALL):
            body = {"steps": steps[first : first + _STEPS_PER_CALL]}
            slates += self._call(self._recommender, "POST", f"{path}/recommend", body)["slates"]
            progress(len(body["steps"]))
        self._call(self._recommender, "DELETE", path, None)
        return slates

    def _call(self, client: httpx.Client, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        try:
            answer = client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise CallFailed(f"{method} {path} got no answer: {error}") from error
        if answer.is_error:
            raise CallFailed(f"{method} {path} was answered with {answer.status_code}: {answer.text[:500]}")
        decoded: dict[str, Any] = answer.json() if answer.content else {}
        return decoded


def items_of(answer: dict[str, Any]) -> list[ItemId]:
    """Return the ids of an answered slate, top first."""
    return [ItemId(shown["item_id"]) for shown in answer["slate"]]
