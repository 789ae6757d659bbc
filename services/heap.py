"""What a long process does about its memory: freed memory goes back, and what lives on is not searched for garbage."""

import ctypes
import gc

_THRESHOLDS = (5_000, 10, 2_000)  # short pauses for what is young; a round over all is as good as never


def give_back() -> None:
    """Give back what the C library keeps and can; only glibc offers that, elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def freeze() -> None:
    """Take what lives now out of the garbage collector's rounds, and make these rare.

    Nothing else runs during a round over all modules and all state. Call it once, when the process is ready.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)
