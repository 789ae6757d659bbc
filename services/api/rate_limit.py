"""How fast each API key may ask."""

from collections.abc import Callable

_BURST_S = 1.0
_ROUNDING_S = 1e-6


class RateLimiter:
    """The generic cell rate algorithm (ITU-T I.371), with the requests of one second, one at least, as its burst."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """Nobody has asked yet; `clock` in seconds."""
        self._clock = clock
        self._due: dict[str, float] = {}

    def wait_s(self, key: str, per_second: float) -> float:
        """Return 0 and count the request when the key may ask now, else the seconds until it may."""
        now, interval = self._clock(), 1 / per_second
        after = max(self._due.get(key, now), now) + interval
        early = after - now - max(_BURST_S, interval)
        if early > _ROUNDING_S:
            return early
        self._due[key] = after
        return 0.0

    def keep(self, keys: set[str]) -> None:
        """Forget every key but these."""
        self._due = {key: due for key, due in self._due.items() if key in keys}
