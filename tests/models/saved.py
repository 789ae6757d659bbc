"""Training of the sequence model with checkpoints, here and in processes that tests start and kill."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import small
import torch
from torch import distributed
from torchrec.distributed.types import ShardingType

from models import sharding
from models.checkpoints import Checkpoints
from models.config import RetrievalSettings
from models.progress import Step
from models.retrieval_training import TABLE_WEIGHT, RetrievalTrainer
from models.sharding import limited_threads, process_group

EPOCHS, EVERY = 2, 2
GONE = np.array([0, small.ITEMS])  # the first and the last row, which two processes do not share
# Everything random and everything that has a state: dropout, unknown items, sampled negatives, averaged weights.
SETTINGS = small.SETTINGS.retrieval.model_copy(
    update={"batch_size": 4, "dropout": 0.2, "full_softmax_items": 1, "sampled_negatives": 10, "average": 0.9}
)
CALM = SETTINGS.model_copy(update={"dropout": 0.0})


class Stop(Exception):
    """Training is interrupted by its listener."""


def trainer(settings: RetrievalSettings = SETTINGS, items: int = small.ITEMS) -> RetrievalTrainer:
    content = np.random.default_rng(small.SEED).normal(size=(items, 4)).astype(np.float32)
    return RetrievalTrainer(settings, content, small.SEED)


def run(
    trained: RetrievalTrainer, checkpoints: Checkpoints | None, after_step: Callable[[int], None] = lambda _: None
) -> list[float]:
    """Train for all epochs; `after_step` hears how many steps this process has done."""
    done = 0

    def report(_step: Step) -> None:
        nonlocal done
        done += 1
        after_step(done)

    return trained.train(small.data().log, EPOCHS, 1.0, report, checkpoints)


def train(
    folder: Path | None, stop_after: int | None = None, kept: int = 3, settings: RetrievalSettings = SETTINGS
) -> tuple[list[float], np.ndarray]:
    """Train alone in this process; losses and table. Raises Stop after so many steps."""

    def after_step(done: int) -> None:
        if done == stop_after:
            raise Stop

    with process_group(), limited_threads(1):
        trained = trainer(settings)
        checkpoints = None if folder is None else Checkpoints(folder, kept, EVERY)
        return run(trained, checkpoints, after_step), trained.trained().table.numpy()


def train_until(step: int, folder: str, sign: str) -> None:
    """Train alone, after `step` steps touch the file `sign`, and wait to be killed."""

    def after_step(done: int) -> None:
        if done == step:
            Path(sign).touch()
            threading.Event().wait()

    with process_group(), limited_threads(1):
        run(trainer(), Checkpoints(Path(folder), 3, EVERY), after_step)


def in_two(rank: int, folder: str) -> None:
    """Train row-wise in one of two processes, keeping every checkpoint; then go on from one, row- and table-wise."""
    before = Path(folder) / "before"
    _join(rank, 2, "row_wise", before)
    np.save(before / f"losses-{rank}.npy", run(trainer(CALM), Checkpoints(before, 100, 10)))
    distributed.destroy_process_group()
    for kind in ("row_wise", "table_wise"):
        go_on(rank, 2, kind, Path(folder) / f"two {kind}", before / "step-10")


def go_on(rank: int, world: int, kind: str, folder: Path, source: Path) -> None:
    """Restore the checkpoint `source` into tables laid out as `kind`, save it again under `again`, and train on."""
    _join(rank, world, kind, folder)
    trained = trainer(CALM)
    sharded = trained._sharded
    (layout,) = sharded.plan.plan["embeddings"].values()
    assert layout.sharding_type == kind
    name = json.loads((source / "progress.json").read_bytes())["run"]
    if rank == 0:
        shutil.copytree(source, folder / source.name)
    distributed.barrier()
    checkpoints = Checkpoints(folder, 100, 10)
    progress = checkpoints.restore(sharded, name)
    assert progress is not None
    Checkpoints(folder / "again", 1, 10).save(sharded, progress)
    np.save(folder / f"sums-{rank}.npy", trained.state().sums.numpy())
    np.save(folder / f"losses-{rank}.npy", run(trained, checkpoints))
    trained.forget(GONE)
    state = trained.state()
    np.savez(folder / f"forgotten-{rank}.npz", table=state.weights[TABLE_WEIGHT].numpy(), sums=state.sums.numpy())
    distributed.destroy_process_group()


def _join(rank: int, world: int, kind: str, folder: Path) -> None:
    torch.set_num_threads(1)
    sharding.SHARDINGS = (ShardingType(kind),)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
