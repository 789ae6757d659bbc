"""Training of the sequence model with checkpoints, here and in processes that tests start and kill."""

import json
import shutil
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import small
import torch
from torch import distributed

from models.checkpoints import Checkpoints
from models.config import LayoutSettings, RetrievalSettings
from models.content import content_vectors, fit_content
from models.covisits import fit_neighbours
from models.progress import Step
from models.ranking_dataset import FirstStage, RankingData, ranking_data
from models.ranking_training import train_ranker
from models.retrieval_training import TABLE_WEIGHT, RetrievalTrainer
from models.sharding import limited_threads, process_group

EPOCHS, EVERY = 2, 2
GONE = np.array([0, small.ITEMS])  # the first and the last row, which two processes do not share
# Everything random and everything that has a state: dropout, unknown items, sampled negatives, averaged weights.
SETTINGS = small.SETTINGS.retrieval.model_copy(
    update={"batch_size": 4, "dropout": 0.2, "full_softmax_items": 1, "sampled_negatives": 10, "average": 0.9}
)
CALM = SETTINGS.model_copy(update={"dropout": 0.0})
RANKING = small.SETTINGS.ranking.model_copy(
    update={"epochs": EPOCHS, "embedding_dim": 8, "embedding_learning_rate": 0.05}
)

Ended = tuple[list[float], np.ndarray]


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
) -> Ended:
    """Train alone in this process; losses and table. Raises Stop after so many steps."""

    def after_step(done: int) -> None:
        if done == stop_after:
            raise Stop

    with process_group(), limited_threads(1):
        trained = trainer(settings)
        checkpoints = None if folder is None else Checkpoints(folder, kept, EVERY)
        return run(trained, checkpoints, after_step), trained.trained().table.numpy()


@cache
def queries() -> RankingData:
    """The ranker's queries, scored by a sequence model that has learnt nothing, so that all processes have the same."""
    data = small.data()
    content = fit_content(data.items)
    vectors = content_vectors(content, data.items)
    trained = RetrievalTrainer(small.SETTINGS.retrieval, vectors, small.SEED).trained()
    stage = FirstStage(content, fit_neighbours(data.log, len(data.items), 50), trained)
    return ranking_data(data, stage, small.SETTINGS)


def train_ranker_too(folder: Path | None, after_step: Callable[[int], None] = lambda _: None) -> Ended:
    """Train the ranker alone in this process; losses and table."""
    done = 0

    def report(_step: Step) -> None:
        nonlocal done
        done += 1
        after_step(done)

    with process_group(), limited_threads(1):
        data, checkpoints = queries(), None if folder is None else Checkpoints(folder, 3, EVERY)
        ranker, losses = train_ranker(RANKING, small.data().items, data, small.SEED, report, checkpoints)
        return losses, ranker.items.numpy()


def train_until(model: str, step: int, folder: str, sign: str) -> None:
    """Train alone, after `step` steps touch the file `sign`, and wait to be killed."""

    def after_step(done: int) -> None:
        if done == step:
            Path(sign).touch()
            threading.Event().wait()

    if model == "ranker":
        train_ranker_too(Path(folder), after_step)
    with process_group(), limited_threads(1):
        run(trainer(), Checkpoints(Path(folder), 3, EVERY), after_step)


SOURCES, LAYOUTS = ("row_wise", "column_wise"), ("row_wise", "table_wise", "column_wise")


def in_two(rank: int, folder: str) -> None:
    """Train in one of two processes in some layouts, keeping every checkpoint; then go on from one of each in all."""
    _join(rank, 2, Path(folder))
    for source in SOURCES:
        before = Path(folder) / source
        np.save(before / f"losses-{rank}.npy", run(trainer(_laid(source)), Checkpoints(before, 100, 10)))
        for kind in LAYOUTS:
            go_on(rank, kind, before / f"two {kind}", before / "step-10")
    distributed.destroy_process_group()


def alone(folder: Path) -> None:
    """Go on in one process from what two saved, in all layouts."""
    _join(0, 1, folder / "row_wise" / "one table_wise")
    for source in SOURCES:
        for kind in LAYOUTS:
            go_on(0, kind, folder / source / f"one {kind}", folder / source / "step-10")
    distributed.destroy_process_group()


def go_on(rank: int, kind: str, folder: Path, source: Path) -> None:
    """Restore the checkpoint `source` into tables laid out as `kind`, save it again under `again`, and train on."""
    trained = trainer(_laid(kind))
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


def _laid(kind: str) -> RetrievalSettings:
    return CALM.model_copy(update={"layout": LayoutSettings(sharding=kind, columns=4)})


def _join(rank: int, world: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
