"""How torch's threads wait for each other."""

from collections.abc import MutableMapping


def wait_passively(environ: MutableMapping[str, str]) -> None:
    """Let idle threads sleep; called by composition roots before anything imports torch, whose threads read it then.

    By default they spin, which on a machine that does anything else besides made training take ten times as long.
    """
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
