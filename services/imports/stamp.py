"""What an import gives to every event that the file does not."""

import hashlib
from dataclasses import dataclass

from services.api.problems import FieldError, rule_error
from streaming.codec import broken_rule, encode
from streaming.events import Event

PRODUCER = "import"
_MAX_AHEAD_MS = 300_000


@dataclass(frozen=True)
class Stamp:
    """The digest of the file and when its import began, ms UTC, the same when it goes on after an interruption."""

    digest: str
    began_at: int

    def event_id(self, number: int) -> str:
        """Return the id of the event of a row: always the same for the same row of the same file."""
        return hashlib.blake2b(f"{self.digest} {number}".encode(), digest_size=16).hexdigest()

    def checked(self, event: Event) -> Event | FieldError:
        """Return the event, or what is wrong with it; how old it is does not matter here."""
        if event.happened_at > self.began_at + _MAX_AHEAD_MS:
            return FieldError("happened_at", f"is more than {_MAX_AHEAD_MS} ms ahead of our clock")
        problem = broken_rule(event)
        if problem is not None:
            return rule_error(problem)
        try:
            encode(event)
        except UnicodeEncodeError:
            return FieldError("row", "is not text in the file's encoding")
        return event
