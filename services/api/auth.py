"""API keys: who may call which route. Keys are random and long, so their plain SHA-256 is what the file holds."""

import hashlib
import ipaddress
import logging
import math
import secrets
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import msgspec

from services.api.problems import ProblemError, problem
from services.api.rate_limit import RateLimiter
from services.settings_serving import ServingSettings
from streaming.errors import FlywheelError
from streaming.namespace import Namespace

_log = logging.getLogger(__name__)
_PREFIX = "fw_"


class Scope(StrEnum):
    """What a key allows; `admin` allows everything, `write` what `write-public` does: events, from web pages too."""

    RECOMMEND = "recommend"
    WRITE = "write"
    WRITE_PUBLIC = "write-public"
    READ_USER = "read-user"
    ADMIN = "admin"


_ENOUGH = {scope: {scope, Scope.ADMIN} for scope in Scope} | {
    Scope.WRITE_PUBLIC: {Scope.WRITE_PUBLIC, Scope.WRITE, Scope.ADMIN}
}


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of the key file: the holder's name, the key's SHA-256 in hex, what it allows and where, and how often.

    `per_second` are requests that each process answers; None is no limit.
    """

    name: str
    sha256: str
    scopes: list[Scope]
    namespace: str
    per_second: Annotated[float, msgspec.Meta(gt=0)] | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether the key may call routes of `scope`."""
        return not _ENOUGH[scope].isdisjoint(self.scopes)


class _KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[KeyEntry]


class KeysRequired(FlywheelError):
    """The services would listen beyond this machine without keys."""

    exit_code = 2


class KeyFileBroken(FlywheelError):
    """The key file cannot be read."""

    exit_code = 2


def new_key(
    name: str, scopes: list[Scope], namespace: Namespace, per_second: float | None = None
) -> tuple[str, KeyEntry]:
    """Make a key: the text to hand to its holder, which is stored nowhere, and its entry for the key file.

    `per_second` are requests that each process answers; None is no limit.
    """
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, KeyEntry(name, _digest(key), scopes, namespace, per_second)


def add_key(file: Path, entry: KeyEntry) -> None:
    """Add an entry to the key file, which is made if need be; running services take it up within a second.

    Keys of one holder stay valid side by side until their entries are removed. Raises KeyFileBroken.
    """
    entries = _read_entries(file) if file.exists() else []
    draft = file.with_name(f"{file.name}.draft")
    draft.touch(mode=0o600)
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(_KeyFile([*entries, entry])), indent=2))
    draft.replace(file)


@lru_cache(64)
def is_loopback(host: str) -> bool:
    """Whether `host` is an address that only this machine can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def refuse_open_bind(serving: ServingSettings) -> None:
    """Raise KeysRequired when the host is not loopback and no key file is set."""
    if serving.api_keys_file is None and not is_loopback(serving.host):
        raise KeysRequired(
            f"serving.host {serving.host!r} can be reached from other machines: set FLYWHEEL_SERVING__API_KEYS_FILE, "
            "or listen on 127.0.0.1"
        )


class Gate:
    """Decides whether a request may pass. The key file is read again when it changes; a broken one leaves the old."""

    def __init__(self, file: Path | None, namespace: Namespace, clock: Callable[[], float]) -> None:
        """Read the file; raises KeyFileBroken. Without a file everybody on this machine may do everything."""
        self._file = file
        self._namespace = namespace
        self._clock = clock
        self._rates = RateLimiter(clock)
        self._looked_at = clock()
        self._stamp = 0
        self._keys: dict[str, KeyEntry] = {}
        if file is not None:
            self._stamp = _stamp(file)
            self._keys = self._read(file)

    def admit(self, authorization: str | None, scope: Scope | None, reached: str) -> None:
        """Raise a 401 or 403 problem unless the header's key allows `scope`, a 429 when it asks too often.

        None is any valid key; `reached` is the address of ours that the request came in by.
        """
        if self._file is None:
            if not is_loopback(reached):
                raise ProblemError(
                    problem(403, "keys-required", "Without API keys only requests over loopback are answered.")
                )
            return
        self._refresh(self._file)
        scheme, _, key = (authorization or "").partition(" ")
        entry = self._keys.get(_digest(key.strip())) if scheme.lower() == "bearer" else None
        if entry is None:
            raise ProblemError(
                problem(401, "key-missing", "Send a valid API key as `Authorization: Bearer KEY`."),
                {"www-authenticate": "Bearer"},
            )
        if scope is not None and not entry.allows(scope):
            raise ProblemError(problem(403, "scope-missing", f"The key does not have the scope {scope.value!r}."))
        if entry.per_second is not None and (wait := self._rates.wait_s(entry.sha256, entry.per_second)) > 0:
            raise ProblemError(
                problem(429, "rate-limit-exceeded", f"The key may ask {entry.per_second:g} times a second."),
                {"retry-after": str(math.ceil(wait))},
            )

    def _refresh(self, file: Path) -> None:
        if self._clock() - self._looked_at < 1.0:
            return
        self._looked_at = self._clock()
        try:
            stamp = _stamp(file)
            if stamp != self._stamp:
                self._keys, self._stamp = self._read(file), stamp
                self._rates.keep({*self._keys})
        except KeyFileBroken as error:
            _log.error("the old keys stay valid: %s", error)

    def _read(self, file: Path) -> dict[str, KeyEntry]:
        return {entry.sha256: entry for entry in _read_entries(file) if entry.namespace == self._namespace}


def _read_entries(file: Path) -> list[KeyEntry]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_KeyFile).keys
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeyFileBroken(f"serving.api_keys_file {str(file)!r} cannot be read: {error}") from error


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError as error:
        raise KeyFileBroken(f"serving.api_keys_file {str(file)!r} cannot be read: {error}") from error
