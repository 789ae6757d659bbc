"""The base of the errors that a person can act on."""


class FlywheelError(Exception):
    """Something is wrong that a person can mend; the text is one sentence that says what and how.

    The command line prints the text alone and exits with `exit_code`.
    """

    exit_code = 1


class BrokerUnavailable(FlywheelError):
    """No broker answered."""


class BrokerRefused(BrokerUnavailable):
    """A broker answered and does not let this client in."""
