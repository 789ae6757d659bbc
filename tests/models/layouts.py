"""Training of both models on tables laid out in a given way, here and in processes that tests start."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import saved
import small
import torch
from torch import distributed
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from models import ranking_training, retrieval_training, sharding
from models.config import LayoutSettings
from models.fitting import Timer, fit
from models.ranking_training import train_ranker
from models.sharding import Sharded
from models.spec import Lineage

KINDS = ("table_wise", "column_wise", "row_wise")
MODELS = ("sequence", "ranker")
Found = dict[str, np.ndarray]


def train(model: str, kind: str) -> Found:
    """Train in this process's group; the losses, the final weights by name, the tables' layouts and their ranks."""
    layout = {"layout": LayoutSettings(sharding=kind, columns=4)}
    with kept() as made:
        if model == "sequence":
            losses = saved.run(saved.trainer(saved.CALM.model_copy(update=layout)), None)
        else:
            data = small.data()
            _, losses = train_ranker(
                saved.RANKING.model_copy(update=layout), data.items, saved.queries(), small.SEED, lambda _step: None
            )
    sharded = made[-1]
    places = [place for tables in sharded.plan.plan.values() for place in tables.values()]
    return {
        "losses": np.array(losses),
        "kinds": np.array(sorted({place.sharding_type for place in places})),
        "ranks": np.array(sorted({rank for place in places for rank in place.ranks})),
    } | {f"weight {name}": value.numpy() for name, value in sharded.weights().items()}


@contextmanager
def kept() -> Iterator[list[Sharded]]:
    """Keep every Sharded that is made meanwhile."""
    made: list[Sharded] = []

    class Kept(Sharded):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            made.append(self)

    places = (ranking_training, retrieval_training)
    for module in places:
        module.Sharded = Kept  # type: ignore[attr-defined]
    try:
        yield made
    finally:
        for module in places:
            module.Sharded = Sharded  # type: ignore[attr-defined]


@contextmanager
def overlapped() -> Iterator[list[int]]:
    """Train as on a GPU meanwhile; how many modules each training pipelined."""
    counts: list[int] = []

    class Counted(TrainPipelineSparseDist):
        def detach(self) -> torch.nn.Module:
            counts.append(len(self._pipelined_modules))
            return super().detach()

    before = sharding.overlaps, sharding.TrainPipelineSparseDist
    sharding.overlaps, sharding.TrainPipelineSparseDist = lambda: True, Counted
    try:
        yield counts
    finally:
        sharding.overlaps, sharding.TrainPipelineSparseDist = before


def in_two(rank: int, folder: str) -> None:
    """Be one of two processes: train everything in every layout, then all of the models; write down what was found."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for model in MODELS:
        for kind in KINDS:
            np.savez(f"{folder}/{model} {kind} {rank}.npz", **train(model, kind))
        with overlapped() as counts:
            np.savez(f"{folder}/{model} overlapped {rank}.npz", **train(model, "row_wise"), pipelined=np.array(counts))
    np.savez(f"{folder}/fit {rank}.npz", **fitted(), told=np.array(sharding.of_first([rank + 1, 5 - rank, 2**62])))
    distributed.destroy_process_group()


def fitted() -> Found:
    """Fit all models in this process's group; losses and weights."""
    found = fit(small.data(), small.SETTINGS, Lineage({}, small.SEED, "test"), Timer(lambda _name, _step: None))
    losses = [found.metrics[name] for name in sorted(found.metrics) if "loss" in name]
    return {
        "losses": np.array(losses),
        "table": found.retrieval.table.numpy(),
        "ranker": found.ranker.items.numpy(),
    }
