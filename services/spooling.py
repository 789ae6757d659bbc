"""Where the services spool."""

import time

from services.config import Settings
from streaming.spool import SpoolPlace

EVENTS = "events"
IMPRESSIONS = "impressions"

_MEGABYTE = 1_000_000


def event_spool(settings: Settings) -> SpoolPlace | None:
    """Return where a collector keeps events while Kafka is away, or None when the settings want no spool."""
    return _place(settings, EVENTS, settings.serving.event_spool_mb)


def impression_spool(settings: Settings) -> SpoolPlace | None:
    """Return where a recommender process keeps impressions meanwhile, or None when the settings want no spool."""
    return _place(settings, IMPRESSIONS, settings.serving.impression_spool_mb)


def _place(settings: Settings, name: str, megabytes: int) -> SpoolPlace | None:
    if megabytes == 0:
        return None
    folder = settings.serving.spool_folder or settings.home / "spool"
    return SpoolPlace(
        folder.resolve() / settings.namespace, name, megabytes * _MEGABYTE, lambda: time.time_ns() // 1_000_000
    )
