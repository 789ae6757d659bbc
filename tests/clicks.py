"""Clicks by number, for tests of the log."""

from streaming.events import Interaction, Kind


def click(number: int) -> Interaction:
    """The click `e<number>`, by one of five users."""
    return Interaction(
        event_id=f"e{number}",
        happened_at=1_700_000_000_000 + number,
        received_at=1,
        producer="test",
        item_id="i",
        user_id=f"u{number % 5}",
        kind=Kind.CLICK,
    )
