"""What a client is made of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Services:
    """Where the services are, and the key for both, if they want one. `timeout_s` is for one try."""

    collector: str = "http://127.0.0.1"
    recommender: str = "http://127.0.0.1"
    key: str | None = None
    timeout_s: float = 10.0

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {} if self.key is None else {"authorization": f"Bearer {self.key}"}


@dataclass(frozen=True)
class Buffering:
    """How many tracked events wait in memory at most, and how long one waits for others to be sent with, seconds."""

    capacity: int = 10_000
    linger_s: float = 0.2
    close_s: float = 10.0
