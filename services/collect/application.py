"""The collector's routes: every one turns a body into events and answers what became of each."""

import asyncio
import functools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from services import heap
from services.api.auth import Gate, Scope
from services.api.problems import FieldError, invalid, unavailable
from services.api.routes import Call, Reply, Route
from services.api.schemas import Ready
from services.collect import bodies
from services.collect.bodies import Accepted, Result, Status
from services.collect.durable import BrokerCheck, DurableSender
from services.collect.intake import Clerk, Shape, shapes
from services.collect.recent import Key, RecentIds, key_of
from services.metrics import CollectorMetrics, HttpMetrics
from services.settings_serving import ServingSettings
from streaming.events import Event
from streaming.outbox import Outcome

_RETRY_AFTER_S = 2
_MAX_ID = 200
_STOP_TIMEOUT_S = 5.0
_ANSWERS = {200: Accepted, 207: Accepted}
_STATUS: Mapping[Outcome, Status] = MappingProxyType(
    {Outcome.SENT: "accepted", Outcome.SPOOLED: "spooled", Outcome.NEITHER: "not_durable"}
)
_DURABLE = ("accepted", "spooled", "duplicate")


class Collector:
    """Accepts events, items, users and identities.

    Acknowledged means: in Kafka, on all in-sync replicas, or in the spool, on this process's disk.
    """

    title = "Flywheel collector"

    def __init__(
        self,
        serving: ServingSettings,
        gate: Gate,
        clerk: Clerk,
        kafka: tuple[DurableSender, BrokerCheck],
        metrics: tuple[HttpMetrics, CollectorMetrics],
    ) -> None:
        self.serving = serving
        self.gate = gate
        self.http_metrics, self._metrics = metrics
        self._clerk = clerk
        self._sender, self._check = kafka
        self._recent = RecentIds(serving.recent_events)

    def routes(self) -> Sequence[Route]:
        """Return the routes."""
        shape = shapes(self._clerk)
        return [
            self._intake("/v1/events", "Collect interactions.", shape["events"], bodies.EventBatch, Scope.WRITE_PUBLIC),
            self._intake("/v1/items", "Add or change items.", shape["items"], bodies.ItemBatch),
            self._intake("/v1/users", "Add or change users.", shape["users"], bodies.UserBatch),
            self._intake("/v1/identities", "Join sessions to users.", shape["identities"], bodies.IdentityBatch),
            Route(
                "DELETE",
                "/v1/items/{item_id}",
                "Take an item out of the catalogue.",
                self._remove_item,
                {200: Accepted},
                Scope.WRITE,
            ),
            Route(
                "DELETE",
                "/v1/users/{user_id}",
                "Have a user erased: dropped everywhere from now on, cleared by `flywheel erase --pending`.",
                self._erase_user,
                {202: Accepted},
                Scope.ADMIN,
            ),
            Route("GET", "/readyz", "Whether events can be accepted.", self._ready, {200: Ready, 503: Ready}),
        ]

    async def start(self) -> None:
        """Connect to Kafka in the background; meanwhile events are spooled, or refused where there is no spool."""
        await self._sender.start()
        heap.freeze()

    async def stop(self) -> None:
        """Send or spool what is queued, and disconnect."""
        await self._sender.stop(_STOP_TIMEOUT_S)
        self._check.close()

    def refresh_metrics(self) -> None:
        """Set the gauges."""
        self._metrics.connected(self._sender.direct)
        self._metrics.spool.filled(self._sender.fill, self._clerk.now())

    def _intake(self, path: str, summary: str, shape: Shape, batch: Any, scope: Scope = Scope.WRITE) -> Route:
        return Route(
            "POST",
            path,
            summary,
            functools.partial(self._accept, shape.plural),
            _ANSWERS,
            scope,
            bodies=(shape.one, batch),
            decode=shape.parts,
            decode_lines=shape.lines,
        )

    async def _accept(self, kind: str, call: Call) -> Reply:
        parts: list[Event | FieldError] = call.body
        errors = [part for part in parts if isinstance(part, FieldError)]
        self._metrics.settled(kind, "rejected", len(errors))
        if len(errors) == len(parts):
            raise invalid(errors)
        results = await self._send(kind, parts)
        accepted = sum(result.status in _DURABLE for result in results)
        return Reply(Accepted(accepted=accepted, results=results), 207 if errors else 200)

    async def _remove_item(self, call: Call) -> Reply:
        results = await self._send("removals", [self._clerk.removal(_id(call, "item_id"))])
        return Reply(Accepted(accepted=1, results=results))

    async def _erase_user(self, call: Call) -> Reply:
        results = await self._send("erasures", list(self._clerk.erasure(_id(call, "user_id"))))
        return Reply(Accepted(accepted=1, results=results[-1:]), 202)

    async def _send(self, kind: str, parts: Sequence[Event | FieldError]) -> list[Result]:
        """Send the events among `parts`; raises a 503 problem with the results when one is not durable."""
        events = [part for part in parts if not isinstance(part, FieldError)]
        statuses = await self._statuses(events)
        for status, count in Counter(statuses).items():
            self._metrics.settled(kind, status, count)
        status_of = iter(statuses)
        results = [_rejected(part) if isinstance(part, FieldError) else _sent(part, next(status_of)) for part in parts]
        kept = sum(status in _DURABLE for status in statuses)
        if kept == 0 and events:
            raise unavailable("Kafka does not answer; nothing was accepted.", _RETRY_AFTER_S, results)
        if kept < len(events):
            detail = f"{kept} of {len(events)} events are in Kafka or in the spool; send the others again."
            raise unavailable(detail, _RETRY_AFTER_S, results)
        return results

    async def _statuses(self, events: Sequence[Event]) -> list[Status]:
        """Send the events that are not durable yet, each once; returns what became of each."""
        keys = [key_of(event) for event in events]
        fresh: dict[Key, Event] = {}
        for key, event in zip(keys, events, strict=True):
            if not self._recent.knows(event):
                fresh.setdefault(key, event)
        status_of: dict[Key, Status] = {}
        if fresh:
            started = time.perf_counter()
            outcomes = await self._sender.send([*fresh.values()])
            self._metrics.acknowledged(time.perf_counter() - started)
            status_of = {key: _STATUS[outcome] for key, outcome in zip(fresh, outcomes, strict=True)}
            self._recent.add(event for key, event in fresh.items() if status_of[key] in _DURABLE)
        statuses: list[Status] = []
        for key, event in zip(keys, events, strict=True):
            status = status_of.get(key, "duplicate")
            again = status in _DURABLE and fresh.get(key) is not event
            statuses.append("duplicate" if again else status)
        return statuses

    async def _ready(self, _: Call) -> Reply:
        checks = {
            "broker": await asyncio.to_thread(self._check.passes),
            "producer": self._sender.direct,
            "spool": self._sender.has_room,
        }
        ready = (checks["broker"] and checks["producer"]) or checks["spool"]
        return Reply(Ready(ready=ready, checks=checks), 200 if ready else 503)


def _id(call: Call, name: str) -> str:
    if not 1 <= len(call.path[name]) <= _MAX_ID:
        raise invalid([FieldError(name, f"must have 1 to {_MAX_ID} characters")])
    return call.path[name]


def _rejected(error: FieldError) -> Result:
    return Result(status="rejected", errors=[error])


def _sent(event: Event, status: Status) -> Result:
    return Result(status=status, event_id=event.event_id)
