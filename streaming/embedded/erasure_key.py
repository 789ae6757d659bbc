"""The erasure key of an embedded broker: made once, kept in the home, readable by its owner alone."""

import secrets
from pathlib import Path

from pydantic import SecretStr

from streaming.embedded.files import write_atomically


def erasure_key_file(home: Path) -> Path:
    """Return where the key is kept."""
    return home / "secrets" / "erasure.key"


def read_erasure_key(home: Path) -> SecretStr | None:
    """Return the key of the broker that lives in `home`, None before one was made."""
    try:
        return SecretStr(erasure_key_file(home).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None


def make_erasure_key(home: Path) -> SecretStr:
    """Return the key of the broker that lives in `home`, made now if there is none."""
    known = read_erasure_key(home)
    if known is not None:
        return known
    path = erasure_key_file(home)
    write_atomically(path, secrets.token_urlsafe(48).encode(), mode=0o600)
    return SecretStr(path.read_text())
