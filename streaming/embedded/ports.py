"""Ports on loopback for the embedded parts."""

import socket

from streaming.errors import FlywheelError

LOOPBACK = "127.0.0.1"


class PortBusy(FlywheelError):
    """A configured port is in use by another program."""

    exit_code = 2


def choose_port(configured: int | None, setting: str) -> int:
    """Return the configured port, or a free one where none is configured.

    `setting` is the environment variable that configures it. Raises PortBusy when the configured port is in use.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, configured or 0))
        except OSError as error:
            raise PortBusy(
                f"port {configured} on {LOOPBACK} cannot be used ({error.strerror}): "
                f"stop the program that uses it, or change or unset {setting}"
            ) from error
        return int(probe.getsockname()[1])
