"""Random ids: what `uuid.uuid4` gives, without asking the operating system for every one."""

import os

_SIZE, _AT_ONCE = 16, 256


class RandomIds:
    """Gives ids of 32 hexadecimal digits from the operating system's randomness; for one thread."""

    def __init__(self) -> None:
        self._random = b""
        self._at = 0

    def new(self) -> str:
        """Return an id that nobody can guess."""
        if self._at == len(self._random):
            self._random, self._at = os.urandom(_SIZE * _AT_ONCE), 0
        self._at += _SIZE
        return self._random[self._at - _SIZE : self._at].hex()
