"""Commands that start, check and show the system."""

import os
import sys
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from services.commands.common import AsJson, console, say, show


class Data(StrEnum):
    """The data sets of the demonstration."""

    MOVIELENS = "movielens"
    SYNTHETIC = "synthetic"


class KeyScope(StrEnum):
    """What an API key allows."""

    RECOMMEND = "recommend"
    WRITE = "write"
    WRITE_PUBLIC = "write-public"
    READ_USER = "read-user"
    ADMIN = "admin"


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("demo")(demo)
    app.command("up")(up)
    app.command("doctor")(doctor)
    app.command("topics")(topics)
    app.command("add-key")(add_key)
    app.command("explain")(explain)
    app.command("replay")(replay)


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the report instead of serving on.")] = False,
    data: Annotated[Data, typer.Option(help="What is replayed.")] = Data.MOVIELENS,
) -> None:
    """Run the whole circle on this machine, from raw events to a measured report."""
    from models.before_torch import set_up_torch

    set_up_torch(os.environ)
    from services.config import load_settings
    from services.demo.run import run_demo

    passed = run_demo(load_settings(), os.environ, console(), data=data.value, once=once)
    if not passed:
        sys.exit(1)


def up() -> None:
    """Run the embedded stack, empty, until Ctrl-C."""
    from services.config import load_settings
    from services.stack import up as run

    run(load_settings(), os.environ, console())


def doctor(as_json: AsJson = False) -> None:
    """Check every connection, version and permission, and say what to fix; exit 1 when something is wrong."""
    from services.config import load_settings
    from services.doctor import examine

    checks = examine(load_settings(), os.environ)
    show("Doctor", [msgspec.to_builtins(check) for check in checks], as_json)
    if not all(check.passed for check in checks):
        sys.exit(1)


def topics(as_json: AsJson = False) -> None:
    """Create the topics that do not exist yet."""
    from services.config import load_settings
    from streaming.topic_creation import ensure_topics

    settings = load_settings()
    created = ensure_topics(settings.kafka, settings.topics)
    show("Created", [{"topic": name} for name in created], as_json)


def add_key(
    name: Annotated[str, typer.Argument(help="Who holds the key.")],
    scope: Annotated[list[KeyScope], typer.Option(help="What it allows; may be given several times.")],
    per_second: Annotated[
        float | None, typer.Option(min=0.001, help="Requests a second that each process answers; no limit if unset.")
    ] = None,
) -> None:
    """Make an API key, add its hash to the key file and print it, once."""
    from services.api.auth import Scope, new_key
    from services.api.auth import add_key as add
    from services.config import ConfigurationError, load_settings

    settings = load_settings()
    file = settings.serving.api_keys_file
    if file is None:
        raise ConfigurationError("no key file is set: set FLYWHEEL_SERVING__API_KEYS_FILE to where keys shall be kept")
    key, entry = new_key(name, [Scope(one.value) for one in scope], settings.topics.namespace, per_second)
    add(file, entry)
    sys.stdout.write(f"{key}\n")


def explain(
    request_id: Annotated[str, typer.Argument(help="The id of a request whose impression has landed.")],
    as_json: AsJson = False,
) -> None:
    """Show a slate that has landed in the lake: sources, scores, propensities, rules and the state it was made for."""
    from features.landed import find_impression
    from services.config import load_settings
    from services.recommend.explain import NotLanded, explain_alone
    from streaming.ids import RequestId

    settings = load_settings()
    lake, namespace = settings.lake.under(settings.home), settings.topics.namespace
    impression = find_impression(lake, namespace, RequestId(request_id))
    if impression is None:
        raise NotLanded(f"no impression of request {request_id!r} is in the lake: `flywheel land` lands them")
    found = explain_alone(impression)
    if as_json:
        show("Explained", [msgspec.to_builtins(found)], as_json)
        return
    say([f"{name}: {value}" for name, value in msgspec.to_builtins(found).items() if name != "items" and value])
    rows = [
        {
            "position": item.position,
            "item_id": item.item_id,
            "source": item.source,
            "score": round(item.score, 4),
            "propensity": round(item.propensity, 4),
            "fixed": item.fixed,
            "rules": ", ".join(item.rules),
        }
        for item in found.items
    ]
    show(f"Request {request_id}", rows, as_json)


def replay(
    request_id: Annotated[str, typer.Argument(help="The id of a request of the last day.")], as_json: AsJson = False
) -> None:
    """Compute a logged slate again from what it was computed from; exit 1 when it comes out different."""
    import time

    from models.config import artifacts_url
    from models.registry import Registry
    from services.config import load_settings
    from services.recommend.surfaces_file import SurfacesFile
    from services.replay import Replayer
    from streaming.ids import RequestId
    from streaming.quiet import quiet

    settings = load_settings()
    serving, topics = settings.serving, settings.topics
    registry = Registry(artifacts_url(settings.model.under(settings.home)), topics.namespace)
    surfaces = SurfacesFile(serving.surfaces_file, serving.task_weights, time.monotonic).current()
    replayer = Replayer(settings.kafka, topics, registry, surfaces, lambda: time.time_ns() // 1_000_000)
    with quiet("kafka"):  # which calls it an error that a consumer was closed
        found = replayer.replay(RequestId(request_id))
    rows = [
        {"position": position, "logged": logged.item_id, "again": again.item_id, "source": logged.source}
        for position, (logged, again) in enumerate(zip(found.logged, found.again, strict=False))
    ]
    show(f"{'Identical' if found.identical else 'Different'}, model {found.model_version}", rows, as_json)
    if not found.identical:
        sys.exit(1)
