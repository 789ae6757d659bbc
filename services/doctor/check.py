"""What a check is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """The outcome of one check: what was found, and what to do about it where it failed."""

    name: str
    passed: bool
    found: str
    fix: str = ""


class Failed(Exception):
    """Ends a check with what was found and what to do about it."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.found = found
        self.fix = fix


@dataclass(frozen=True)
class Expected:
    """The errors that a check may meet, and what to do about them."""

    errors: tuple[type[Exception], ...]
    fix: str


def check(name: str, run: Callable[[], str], expected: Expected) -> Check:
    """Run a check: it returns what it found, or raises Failed or an expected error."""
    try:
        return Check(name, True, run())
    except Failed as failed:
        return Check(name, False, failed.found, failed.fix)
    except expected.errors as error:
        return Check(name, False, f"{type(error).__name__}: {error}", expected.fix)
