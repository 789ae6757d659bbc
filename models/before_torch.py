"""What torch and FBGEMM read when they are loaded; composition roots set it before anything imports torch."""

import ctypes
from collections.abc import MutableMapping
from importlib.util import find_spec
from pathlib import Path


def set_up_torch(environ: MutableMapping[str, str]) -> None:
    """Let torch's idle threads sleep, and FBGEMM see the processor's vector instructions.

    By default idle threads spin, which on a machine that does anything else besides made training take ten times as
    long. And two of torch's libraries have a copy each of what the processor can do: torch fills one, FBGEMM reads the
    other, finds nothing there and updates rows one number at a time (pytorch/pytorch#166703). With libc10 loaded for
    everybody before the others, all of them use its copy. In a process that has imported torch already nothing changes.
    Raises ModuleNotFoundError when there is no torch, OSError when its libraries cannot be loaded.
    """
    environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    found = find_spec("torch")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("torch is not installed")
    ctypes.CDLL(str(Path(found.origin).parent / "lib/libc10.so"), mode=ctypes.RTLD_GLOBAL)
