"""The namespace that keeps tenants on shared servers apart."""

import re
from typing import NewType

Namespace = NewType("Namespace", str)

_PATTERN = re.compile(r"[a-z][a-z0-9]{1,19}")


def parse_namespace(text: str) -> Namespace:
    """Check a namespace: a lower-case letter, then 1 to 19 lower-case letters or digits.

    Raises ValueError with a sentence that says what is allowed.
    """
    if _PATTERN.fullmatch(text) is None:
        raise ValueError(
            f"namespace {text!r} is not allowed: use a lower-case letter, then 1 to 19 lower-case letters or digits"
        )
    return Namespace(text)
