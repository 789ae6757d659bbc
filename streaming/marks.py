"""Marks: what stands for a user or a guest's session in the ledger of erasures and in receipts, instead of the id.

A mark is the HMAC-SHA256 of the owner under the namespace's key (RFC 2104); without the key nobody can test whether an
id is in the ledger.
"""

import hashlib
import hmac

from streaming.config import KafkaSettings
from streaming.errors import FlywheelError
from streaming.events import Event, IdentityLinked, Impression, Interaction, UserErased, UserUpserted
from streaming.ids import SessionId, UserId
from streaming.namespace import Namespace

Owner = str
"""Whose something is: a user's id, or `session:` and a guest's session, as in the keys of interactions."""


class ErasureKeyMissing(FlywheelError):
    """Nobody said which secret the ledger's entries are made with."""

    exit_code = 2


class Marker:
    """Makes the marks of one namespace; equal owners of two namespaces have different marks."""

    def __init__(self, kafka: KafkaSettings, namespace: Namespace) -> None:
        """Derive the namespace's key; raises ErasureKeyMissing."""
        self.key = derived_key(kafka, f"ledger of {namespace}")
        self._empty = hmac.new(self.key, digestmod=hashlib.sha256)

    def mark(self, owner: Owner) -> str:
        """Return the owner's mark, 64 hexadecimal digits."""
        made = self._empty.copy()
        made.update(owner.encode())
        return made.hexdigest()


def derived_key(kafka: KafkaSettings, purpose: str) -> bytes:
    """Return 32 bytes for one purpose alone, derived from the erasure key; raises ErasureKeyMissing."""
    if kafka.erasure_key is None:
        raise ErasureKeyMissing(
            "kafka.erasure_key is not set, and without it nobody can tell who was erased: set "
            "FLYWHEEL_KAFKA__ERASURE_KEY to one secret of at least 32 characters for all processes, and keep it"
        )
    secret = kafka.erasure_key.get_secret_value().encode()
    return hmac.digest(secret, f"flywheel {purpose}".encode(), "sha256")


def owner_of(user_id: UserId | str | None, session_id: SessionId | str | None) -> Owner | None:
    """Return the user as the owner, else the session, else None."""
    if user_id is not None:
        return user_id
    return None if session_id is None else f"session:{session_id}"


def event_owner(event: Event) -> Owner | None:
    """Return whose an event is; None for what concerns nobody."""
    match event:
        case Interaction() | Impression():
            return owner_of(event.user_id, event.session_id)
        case UserUpserted() | UserErased() | IdentityLinked():
            return event.user_id
        case _:
            return None
