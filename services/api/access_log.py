"""The access log: a JSON line for each answered request but probes, for who reads the logs of all replicas together.

A line has the route's template and never a path, a body or an id that a client chose: those are untrusted.
"""

from typing import TextIO

import msgspec

from services.settings_serving import AccessLogMode

_SERVER_ERROR = 500


class Answered(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="log", tag="access"):
    """One answered request at `at`, ms UTC, which took `ms`; the ids are those of its slate and its trace, if any."""

    at: int
    service: str
    method: str
    route: str
    status: int
    ms: float
    request_id: str | None = None
    trace_id: str | None = None


class AccessLog:
    """Writes what the mode asks for: nothing, answers of status 500 and above, or all."""

    def __init__(self, mode: AccessLogMode, stream: TextIO) -> None:
        self._least = {"off": None, "errors": _SERVER_ERROR, "all": 0}[mode]
        self._stream = stream
        self._encoder = msgspec.json.Encoder()

    def wants(self, status: int) -> bool:
        """Whether an answer of this status is logged."""
        return self._least is not None and status >= self._least

    def write(self, answered: Answered) -> None:
        """Write a line."""
        self._stream.write(self._encoder.encode(answered).decode() + "\n")
        self._stream.flush()
