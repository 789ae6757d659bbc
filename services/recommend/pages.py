"""Pages of one list: a cursor carries what the pages before have shown, so that no process keeps anything between them.

A page shows the best of what the pages before left. While model, rules, catalogue and history stay as they are, that is
one long slate cut into pages; when they change, the next page is computed from what holds then and still repeats
nothing. A cursor is not secret and grants nothing: forged, it only leaves items out of its sender's own answer.
"""

import binascii
import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from streaming.errors import FlywheelError
from streaming.events import Id, Millis

MAX_SHOWN = 500
MAX_TEXT = 65_536
TTL_MS = 3_600_000

_AHEAD_MS = 60_000  # another process's clock may be ahead of ours


class BadCursor(FlywheelError):
    """A cursor cannot be used; the message says why, without its subject."""


@dataclass(frozen=True)
class Question:
    """What stays the same from page to page; `exclude` are item ids."""

    user_id: str | None
    session_id: str | None
    surface: str
    categories: Sequence[str]
    exclude: Sequence[str]

    def digest(self) -> bytes:
        """Return 8 bytes that stand for the question."""
        parts = (self.user_id, self.session_id, self.surface, self.categories, self.exclude)
        return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=8).digest()


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Where a list stands: when its first page was asked for (ms), a guest's session and the item ids shown so far."""

    version: Literal[1]
    began: Millis
    question: Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
    session_id: Id | None
    shown: Annotated[list[Id], msgspec.Meta(min_length=1, max_length=MAX_SHOWN)]

    def check(self, question: Question) -> None:
        """Raise BadCursor unless the cursor was given for `question`."""
        if self.question != question.digest():
            same = "user_id, session_id, surface, categories and exclude"
            raise BadCursor(f"was given for another question: send it with the same {same}")


def write_cursor(began: int, question: Question, shown: Sequence[str]) -> str | None:
    """Return the cursor of the page after what was `shown`, item ids; None when the list has become too long."""
    if not 1 <= len(shown) < MAX_SHOWN:
        return None
    cursor = Cursor(1, began, question.digest(), question.session_id, list(shown))
    text = urlsafe_b64encode(msgspec.msgpack.encode(cursor)).decode()
    return text if len(text) <= MAX_TEXT else None


def read_cursor(text: str, now: int) -> Cursor:
    """Return what `write_cursor` wrote; raises BadCursor for any other text and for one that expired by `now`, ms."""
    if len(text) > MAX_TEXT:
        raise BadCursor("is longer than any that an answer gave")
    try:
        cursor = msgspec.msgpack.decode(urlsafe_b64decode(text.encode("ascii")), type=Cursor)
    except (UnicodeEncodeError, UnicodeDecodeError, binascii.Error, msgspec.DecodeError) as error:
        raise BadCursor("is none that an answer gave") from error
    if not now - TTL_MS <= cursor.began <= now + _AHEAD_MS:
        raise BadCursor("has expired: ask for the first page again, without a cursor")
    return cursor
