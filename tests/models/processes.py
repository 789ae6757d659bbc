"""Two processes that train together."""

from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest

_LIMIT_S = 400


def in_two(work: Callable[[int, str], None], folder: Path) -> None:
    """Call `work` with a rank and the folder in each of two new processes, which must both end well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        context = get_context("spawn")
        processes = [context.Process(target=work, args=(rank, str(folder)), daemon=True) for rank in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(_LIMIT_S)
            assert process.exitcode == 0
