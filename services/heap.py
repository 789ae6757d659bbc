"""Memory that was freed and that the C library keeps: given back to the system."""

import ctypes


def give_back() -> None:
    """Give back what can be; only glibc offers that, elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
