"""What a long process does about its memory: freed memory goes back, and what lives on is not searched for garbage."""

import ctypes
import gc

_ROUNDS = (5_000, 10, 2_000)  # of the young a round takes 3 ms then; one over all that came later is as good as never


def give_back() -> None:
    """Give back what the C library keeps and can; only glibc offers that, elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle() -> None:
    """Take what lives now out of the garbage collector's rounds, and make these rare.

    A round over all modules and all state takes a tenth of a second, in which nothing else runs. Call it once, when the
    process is ready.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_ROUNDS)
