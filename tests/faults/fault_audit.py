"""An auditor beside a run: a process with a Spark session of its own, asked again and again what does not add up."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from features.accounting import audit
from services.commands.common import open_lake

_ANSWER_S = 240.0
_YET_TO_LAND = ("has not landed", "offsets have not landed")


class Auditor:
    """Audits what has landed while the load goes on. Used as a context manager."""

    def __init__(self, environ: dict[str, str], log: Path) -> None:
        """Start the process, with the settings in `environ`; it is ready some seconds later."""
        self._told = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, __file__], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._told
        )
        self._reader = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.shutdown()
        self._told.close()

    def check(self, *, all_landed: bool = False) -> None:
        """Raise AssertionError naming what does not add up in what has landed, or was acknowledged and is gone.

        With `all_landed` there must be nothing else.
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"audit\n")
        process.stdin.flush()
        line = self._reader.submit(process.stdout.readline).result(_ANSWER_S)
        assert line, f"the auditor ended with {process.wait()}; {self._told.name} says why"
        wrong = [one for one in json.loads(line) if all_landed or not one.endswith(_YET_TO_LAND)]
        assert wrong == [], f"the audit found: {'; '.join(wrong[:5])}"


def main() -> None:
    """Answer each line of standard input with a line of JSON: what does not add up."""
    settings, spark = open_lake()
    for _ in sys.stdin:
        found = audit(spark, settings.kafka, settings.topics)
        problems = [problem for part in found.partitions for problem in part.problems]
        print(json.dumps([*problems, *map(str, found.differences)]), flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
