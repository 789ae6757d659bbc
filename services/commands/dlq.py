"""`flywheel dlq`: the records that landing put aside, and their replay after a fix."""

from typing import TYPE_CHECKING, Annotated

import typer

from services.commands.common import AsJson, show

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.config import Settings
    from streaming.letters import Letter, Side

Topic = Annotated[str | None, typer.Option(help="Only those of this topic, with or without the namespace.")]
Reason = Annotated[str | None, typer.Option(help="Only those whose reason contains this text.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    group = typer.Typer(help="List the dead letters and parked records, or replay those that a fix has mended.")
    group.command("list")(list_letters)
    group.command("replay")(replay)
    app.add_typer(group, name="dlq")


def list_letters(
    topic: Topic = None,
    reason: Reason = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="Also those that were replayed.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the records that were put aside and wait for a fix."""
    from services.config import load_settings
    from streaming.letters import Progress, State, letters, progress

    settings = load_settings()
    rows = []
    for name, side in _sides(settings, topic):
        known = progress(settings.kafka, name, side)
        for letter in filter(_chosen(reason), letters(settings.kafka, name, side)):
            state = known.get(letter.id, Progress(State.WAITING)).state
            if replayed or state is not State.REPLAYED:
                rows.append(
                    {
                        "side": side.value,
                        "topic": letter.topic,
                        "partition": letter.partition,
                        "offset": letter.offset,
                        "bytes": len(letter.value),
                        "state": state.value,
                        "reason": letter.reason,
                    }
                )
    show(f"{len(rows)} records put aside", rows, as_json)


def replay(topic: Topic = None, reason: Reason = None, as_json: AsJson = False) -> None:
    """Send the records that would land now to their topics again, each once; the others stay."""
    from features.decoding import refusal
    from features.lease import held_lease
    from services.config import load_settings
    from streaming.ledger import LedgerReader
    from streaming.producer import EventProducer
    from streaming.redelivery import Fate, Redelivery

    settings = load_settings()
    topics = settings.topics
    rows = []
    with held_lease(settings.store, topics.namespace, "replay"):
        producer, reader = EventProducer(settings.kafka, topics), LedgerReader(settings.kafka, topics)
        redelivery = Redelivery(
            settings.kafka,
            topics,
            producer,
            lambda letter: refusal(topics, letter.topic, letter.value),
            reader.ledger,
        )
        try:
            reader.refresh()
            for name, side in _sides(settings, topic):
                counts = redelivery.replay(name, side, _chosen(reason))
                rows.append({"side": side.value, "topic": name} | {fate.value: counts[fate] for fate in Fate})
        finally:
            reader.close()
            producer.close()
    show("Replayed", rows, as_json)


def _sides(settings: "Settings", topic: str | None) -> "list[tuple[str, Side]]":
    from services.config import ConfigurationError
    from streaming.letters import sides

    found = sides(settings.topics)
    if topic is None:
        return found
    names = (topic, f"{settings.namespace}.{topic}")
    chosen = [(name, side) for name, side in found if name in names]
    if not chosen:
        known = ", ".join(settings.topics.landed)
        raise ConfigurationError(f"no records of topic {topic!r} are put aside: --topic is one of {known}")
    return chosen


def _chosen(reason: str | None) -> "Callable[[Letter], bool]":
    return lambda letter: reason is None or reason in letter.reason
