"""`flywheel backup` and `flywheel restore`."""

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import AsJson, lake_session, need_lake, say, show
from streaming.namespace import Namespace

if TYPE_CHECKING:
    from features.backup import Holder, Index
    from models.registry import Registry
    from services.config import Settings

Where = Annotated[str, typer.Argument(help="Folder or object store URL of the backup.")]

_UNERASED = (
    "the lake is back, and with it what it held of users who were erased after the backup; they are erased again now: "
    "should that be interrupted, run `flywheel erase --again` to its end before anything reads the lake"
)


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(where: Where, as_json: AsJson = False) -> None:
    """Copy lake, Feast's registry, models and erasure ledger to a folder or URL; a second time only what is new."""
    from features.backup import Place, back_up
    from services.config import load_settings

    settings = load_settings()
    need_lake(settings)
    index = back_up(_holder(settings), Place(where))
    models = _models(settings).copy_to(_models_in(where, settings))
    show("Backed up", _rows(index, models), as_json)


def restore(where: Where, as_json: AsJson = False) -> None:
    """Put a backup back and carry out the erasures that came after it; start the services when this has ended."""
    from features.backup import Place
    from features.backup import restore as put_back
    from features.lake import ensure_tables
    from services.config import load_settings
    from services.erasure.erase import Eraser
    from streaming.producer import EventProducer
    from streaming.topic_creation import ensure_topics

    settings = load_settings()
    ensure_topics(settings.kafka, settings.topics)
    kept, here = _models_in(where, settings), _models(settings)
    kept.refuse_unlike(here)
    with closing(EventProducer(settings.kafka, settings.topics)) as producer:
        index = put_back(_holder(settings), Place(where), producer)
    models = kept.copy_to(here)
    say([_UNERASED])
    spark = lake_session(settings)
    ensure_tables(spark, settings.topics.namespace)  # those that an older release did not have
    erased = list(Eraser(settings, spark).erase_again())
    say([f"{len(erased)} owners were erased again; `flywheel rebuild online` fills an online store that is new"])
    show("Restored", _rows(index, models), as_json)


def _holder(settings: "Settings") -> "Holder":
    from features.backup import Holder
    from features.config import require
    from features.store import registry_file

    folder = require(settings.store.under(settings.home).registry, "store.registry")
    registry = registry_file(folder, settings.topics.namespace)
    return Holder(settings.lake.under(settings.home), registry, settings.kafka, settings.topics)


def _models(settings: "Settings") -> "Registry":
    from models.config import artifacts_url
    from models.registry import Registry

    return Registry(artifacts_url(settings.model.under(settings.home)), Namespace(settings.namespace))


def _models_in(where: str, settings: "Settings") -> "Registry":
    from models.registry import Registry

    return Registry(f"{where.rstrip('/')}/_models", Namespace(settings.namespace))  # no namespace begins with _


def _rows(index: "Index", models: list[str]) -> list[dict[str, object]]:
    return [
        {
            "namespace": index.namespace,
            "tables": len(index.tables),
            "files": len(index.files),
            "bytes": sum(index.files.values()),
            "registry": index.has_registry,
            "ledger_entries": len(index.ledger),
            "models": len(models),
        }
    ]
