"""Work in new processes, of which the first has something to report."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def in_processes(count: int, work: Callable[..., None], *arguments: object) -> Any:
    """Run `work(rank, folder, *arguments)` in each; returns what the first gave to `tell`. Raises when one fails."""
    processes: Any = torch.multiprocessing
    with tempfile.TemporaryDirectory() as folder:
        processes.spawn(work, (folder, *arguments), nprocs=count)
        return json.loads(_told(folder).read_bytes())


def tell(folder: str, found: object) -> None:
    """Report something that JSON can hold."""
    _told(folder).write_text(json.dumps(found), encoding="utf-8")


def _told(folder: str) -> Path:
    return Path(folder) / "found.json"
