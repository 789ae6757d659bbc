"""Where the services spool."""

import time
from pathlib import Path

from services.config import Settings
from streaming.spool import SpoolPlace

EVENTS = "events"
IMPRESSIONS = "impressions"

_MEGABYTE = 1_000_000


def event_spool(settings: Settings) -> SpoolPlace | None:
    """Return where a collector keeps events while Kafka is away, or None when the settings want no spool."""
    return _wanted(_events(settings))


def impression_spool(settings: Settings) -> SpoolPlace | None:
    """Return where a recommender process keeps impressions meanwhile, or None when the settings want no spool."""
    return _wanted(_impressions(settings))


def spool_places(settings: Settings) -> list[SpoolPlace]:
    """Return both places whatever sizes the settings want now, since files of before may lie there."""
    return [_events(settings), _impressions(settings)]


def spool_folder(settings: Settings) -> Path:
    """Return the folder of the namespace's spools, which need not exist."""
    return (settings.serving.spool_folder or settings.home / "spool").resolve() / settings.namespace


def _events(settings: Settings) -> SpoolPlace:
    return _place(settings, EVENTS, settings.serving.event_spool_mb)


def _impressions(settings: Settings) -> SpoolPlace:
    return _place(settings, IMPRESSIONS, settings.serving.impression_spool_mb)


def _place(settings: Settings, name: str, megabytes: int) -> SpoolPlace:
    return SpoolPlace(spool_folder(settings), name, megabytes * _MEGABYTE, lambda: time.time_ns() // 1_000_000)


def _wanted(place: SpoolPlace) -> SpoolPlace | None:
    return place if place.capacity > 0 else None
