"""What processes have used: CPU seconds and memory of a process and all under it, as the kernel counts them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import psutil

_MB = 1_000_000


@dataclass(frozen=True)
class Used:
    """CPU seconds by the processes' names; the kernel counts in hundredths."""

    cpu_s: Mapping[str, float]

    def since(self, before: "Used") -> dict[str, float]:
        """Return what was used since then."""
        return {name: seconds - before.cpu_s[name] for name, seconds in self.cpu_s.items()}


def used(pids: Mapping[str, int]) -> Used:
    """Return what the processes, each with its children, have used so far."""
    return Used({name: sum(map(_cpu_s, _tree(pid))) for name, pid in pids.items()})


def memory_mb(pid: int) -> dict[str, float]:
    """Return RSS and PSS of a process and its children, in millions of bytes."""
    full = [process.memory_full_info() for process in _tree(pid)]
    return {"rss": sum(one.rss for one in full) / _MB, "pss": sum(one.pss for one in full) / _MB}


def _tree(pid: int) -> Iterable[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
