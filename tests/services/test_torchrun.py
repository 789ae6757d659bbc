"""`flywheel train` on several machines, started as the chart's pods start it, here all on this one."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import small
from environ import without_settings
from small_lake import write_lake

from features.config import LakeSettings
from models.registry import Registry
from streaming.embedded.ports import choose_port
from streaming.namespace import Namespace

NAMESPACE = Namespace("shop")
NODES = 2


def variables(home: Path, shared: Path) -> dict[str, str]:
    """The settings of a pod: a home of its own, and a lake and a registry for all."""
    lake = LakeSettings().under(shared)
    return {
        **without_settings(),
        "OMP_NUM_THREADS": "1",
        "BENTOML_HOME": str(home / "bentoml"),
        "FLYWHEEL_HOME": str(home),
        "FLYWHEEL_NAMESPACE": NAMESPACE,
        "FLYWHEEL_LAKE__URI": str(lake.uri),
        "FLYWHEEL_LAKE__WAREHOUSE": str(lake.warehouse),
        "FLYWHEEL_MODEL__ARTIFACTS": str(shared / "models"),
        **small.variables(),
    }


def test_two_machines_train_one_model_together(tmp_path: Path) -> None:
    write_lake(tmp_path, NAMESPACE, small.lake_tables())
    programs = Path(sys.executable).parent
    meeting = ["--master-addr=127.0.0.1", f"--master-port={choose_port(None, 'a test')}"]
    until = datetime.fromtimestamp(small.CUT / 1000, UTC).isoformat()
    command = ["--no-python", "--nproc-per-node=1", str(programs / "flywheel"), "train", "--until", until, "--json"]
    homes = [tmp_path / f"pod{node}" for node in range(NODES)]
    pods = []
    for node, home in enumerate(homes):
        home.mkdir()
        with (home / "said").open("wb") as said, (home / "log").open("wb") as log:
            pods.append(
                subprocess.Popen(
                    [str(programs / "torchrun"), f"--nnodes={NODES}", f"--node-rank={node}", *meeting, *command],
                    env=variables(home, tmp_path),
                    stdout=said,
                    stderr=log,
                    start_new_session=True,  # with the processes that it starts
                )
            )
    try:
        codes = [pod.wait(240) for pod in pods]
    finally:
        for pod in pods:
            with suppress(ProcessLookupError):
                os.killpg(pod.pid, signal.SIGKILL)

    assert codes == [0] * NODES, [(home / "log").read_text() for home in homes]
    (trained,) = json.loads((homes[0] / "said").read_text())
    assert (homes[1] / "said").read_text() == "", "the first process alone speaks"
    assert Registry(str(tmp_path / "models"), NAMESPACE).versions() == [trained["version"]]
    assert trained["trained_until"] == small.CUT
