"""All checks, in the order in which the parts rely on each other."""

from collections.abc import Iterator, Mapping

from services.config import Settings
from services.doctor import kafka, local, stores
from services.doctor.check import Check
from services.endpoints import Endpoints, read_endpoints
from streaming.namespace import Namespace

_STARTED_BY_UP = "embedded: `flywheel up` starts one"


def examine(settings: Settings, environ: Mapping[str, str]) -> list[Check]:
    """Check everything that the settings rely on; nothing is changed but for probes that are removed again."""
    return list(_checks(settings, environ, read_endpoints(settings.home)))


def _checks(settings: Settings, environ: Mapping[str, str], running: Endpoints | None) -> Iterator[Check]:
    yield from local.checks(settings, running)
    if settings.kafka.bootstrap_servers is None:
        yield Check("kafka", True, _STARTED_BY_UP)
    else:
        embedded = running is not None and running.bootstrap_servers == settings.kafka.bootstrap_servers
        yield from kafka.checks(settings.kafka, settings.topics, embedded=embedded)
    if settings.store.redis_url is None:
        yield Check("store", True, _STARTED_BY_UP)
    else:
        yield stores.check_store(settings.store)
    yield from stores.check_lake(settings.lake.under(settings.home), environ)
    yield stores.check_models(settings.model.under(settings.home), Namespace(settings.namespace))
