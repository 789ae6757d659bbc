"""Two processes that train together."""

import os
from collections.abc import Callable
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

from models.before_torch import set_up_torch

_LIMIT_S = 400


def in_two(work: Callable[[int, str], None], folder: Path) -> None:
    """Call `work` with a rank and the folder in each of two new processes, which must both end well."""
    context = get_context("spawn")
    named = work.__module__, work.__name__
    processes = [context.Process(target=_call, args=(*named, rank, str(folder)), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_LIMIT_S)
        assert process.exitcode == 0


def _call(module: str, name: str, rank: int, folder: str) -> None:
    """Import the work only now: it imports torch, which is to be set up before."""
    set_up_torch(os.environ)
    getattr(import_module(module), name)(rank, folder)
