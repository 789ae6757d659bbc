"""When a request is sent again, and after which wait."""

import random
from dataclasses import dataclass, field

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses that another try may end."""


@dataclass(frozen=True)
class Retry:
    """How often a request is tried before it fails, and the waits between, seconds: each up to twice the one before.

    A wait is drawn from half of it to all of it, so that clients that failed together do not come back together; what
    the service asks for by Retry-After comes on top. `draw` gives numbers from 0 to 1.
    """

    tries: int = 6
    first_wait_s: float = 0.1
    longest_wait_s: float = 5.0
    longest_asked_s: float = 60.0
    draw: random.Random = field(default_factory=random.Random)

    def wait_s(self, failures: int, asked_s: float = 0.0) -> float:
        """Return the wait after so many failures in a row."""
        most = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))
        return min(asked_s, self.longest_asked_s) + most * (1 + self.draw.random()) / 2


def asked_wait_s(retry_after: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, 0 without one; our services give no dates."""
    return float(retry_after) if retry_after is not None and retry_after.isascii() and retry_after.isdigit() else 0.0
