"""The erasure key of an embedded broker: made once, kept in the home, readable by its owner alone."""

import os
import secrets
from pathlib import Path

from pydantic import SecretStr


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
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(48))
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    return SecretStr(path.read_text())
