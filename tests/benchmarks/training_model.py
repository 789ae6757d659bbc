"""A DLRM to measure by: fused table-batched embeddings or plain bags under one dense part, on random batches.

M. Naumov et al., Deep learning recommendation model for personalization and recommendation systems, arXiv 1906.00091.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor, KeyedTensor
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from models.config import LayoutSettings
from models.device_batch import DeviceBatch
from models.layout import plan, sharders
from models.quiet import upstream_notices_muted
from models.sharding import EPSILON, Rates, Sharded, device, own_part
from models.shards import put

NUMBERS = 13  # dense features, as in the Criteo logs
BOTTOM, TOP = (64,), (64, 32)  # hidden layers before and after the interaction
RATES = Rates(dense=1e-3, embedding=0.05, decay=0.0)

RowOptimizer = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Size:
    """The tables, and the samples of a step over all processes; each sample has one row of each table."""

    tables: int
    rows: int
    batch: int
    dim: int = 16


@dataclass(frozen=True)
class Samples(DeviceBatch):
    """One process's part of a step: float [samples, 13], int64 [tables, samples], float [samples] of 0 and 1.

    `weight` is that of a sample in the loss, a number.
    """

    numbers: Tensor
    ids: Tensor
    labels: Tensor
    weight: Tensor


def samples(size: Size, count: int, seed: int) -> list[Samples]:
    """Draw this process's part of `count` steps, rows uniform, on its device."""
    drawn = torch.Generator().manual_seed(seed)
    own, world = own_part(size.batch), torch.distributed.get_world_size()
    found = []
    for _ in range(count):
        numbers = torch.rand(size.batch, NUMBERS, generator=drawn)
        ids = torch.randint(size.rows, (size.tables, size.batch), generator=drawn)
        labels = (torch.rand(size.batch, generator=drawn) < 0.25).float()
        # Gradients are averaged over the processes, so each one's loss counts as often as there are processes.
        weight = torch.tensor(world / size.batch)
        found.append(Samples(_here(numbers[own]), _here(ids[:, own]), _here(labels[own]), _here(weight)))
    return found


class DensePart(nn.Module):
    """Everything but the embeddings: a network for the numbers, all products of pairs, a network on top."""

    def __init__(self, tables: int, dim: int) -> None:
        super().__init__()
        self.bottom = _layers(NUMBERS, *BOTTOM, dim)
        self.top = _layers(dim + (tables + 1) * tables // 2, *TOP, 1)
        row, column = torch.triu_indices(tables + 1, tables + 1, offset=1)
        self.register_buffer("pairs", row * (tables + 1) + column, persistent=False)

    def forward(self, batch: Samples, rows: Tensor) -> Tensor:
        """Return the loss from the rows of all tables, float [samples, tables * dim]."""
        numbers = functional.relu(self.bottom(batch.numbers))
        vectors = torch.cat((numbers, rows), dim=1).unflatten(1, (-1, numbers.shape[1]))
        products = (vectors @ vectors.transpose(1, 2)).flatten(1).index_select(1, self.get_buffer("pairs"))
        logits = self.top(torch.cat((numbers, products), dim=1)).squeeze(1)
        return functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="sum") * batch.weight


class FusedTask(nn.Module):
    """The model on an EmbeddingBagCollection, which DistributedModelParallel turns into fused tables."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.names = [f"t{number}" for number in range(size.tables)]
        self.embeddings = EmbeddingBagCollection(
            tables=[
                EmbeddingBagConfig(
                    name=name,
                    embedding_dim=size.dim,
                    num_embeddings=size.rows,
                    feature_names=[name],
                    weight_init_min=-0.05,
                    weight_init_max=0.05,
                )
                for name in self.names
            ]
        )
        self.dense = DensePart(size.tables, size.dim)

    def forward(self, batch: Samples) -> Tensor:
        """Return the loss."""
        ones = torch.ones(batch.ids.numel(), dtype=torch.int64, device=batch.ids.device)
        looked_up = self.embeddings(KeyedJaggedTensor(keys=self.names, values=batch.ids.flatten(), lengths=ones))
        loss: Tensor = self.dense(batch, _in_order(looked_up, self.names))
        return loss


class PlainTask(nn.Module):
    """The same model on one nn.EmbeddingBag a table, whose gradients are as large as the table or `sparse`."""

    def __init__(self, start: FusedTask, sparse: bool = False) -> None:
        super().__init__()
        tables = [bag.weight.detach().clone() for bag in start.embeddings.embedding_bags.values()]
        self.bags = nn.ModuleList(
            nn.EmbeddingBag.from_pretrained(table, freeze=False, mode="sum", sparse=sparse) for table in tables
        )
        self.dense = copy.deepcopy(start.dense)

    def forward(self, batch: Samples) -> Tensor:
        """Return the loss."""
        rows = [bag(ids.unsqueeze(1)) for bag, ids in zip(self.bags, batch.ids, strict=True)]
        loss: Tensor = self.dense(batch, torch.cat(rows, dim=1))
        return loss


class Plain:
    """Training of a plain model: an optimiser for the rows after the backward pass, AdamW for the dense part."""

    def __init__(self, task: PlainTask, optimizer: RowOptimizer) -> None:
        self._task = task.to(device())
        self._optimizers = (
            optimizer(list(self._task.bags.parameters())),
            dense_optimizer(self._task.dense.parameters()),
        )

    def step(self, batch: Samples) -> float:
        """Take one step; returns the loss."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        loss = self._task(batch)
        loss.backward()
        for optimizer in self._optimizers:
            optimizer.step()
        return float(loss.detach())


class FusedSgd:
    """Training of the fused model with SGD for the rows, which the product has not: the least that its kernels take."""

    def __init__(self, task: FusedTask) -> None:
        start = {name: value.detach().clone() for name, value in task.state_dict().items()}
        apply_optimizer_in_backward(torch.optim.SGD, task.embeddings.parameters(), {"lr": RATES.embedding})
        with upstream_notices_muted():
            found = plan(task, task.embeddings, device().type, LayoutSettings())
            self._model = DistributedModelParallel(
                task,
                device=device(),
                plan=found,
                sharders=sharders(),
                init_data_parallel=device().type == "cuda",  # as in Sharded
            )
            for name, value in self._model.state_dict().items():
                put(value, start[name])
        self._optimizer = dense_optimizer(dict(in_backward_optimizer_filter(self._model.named_parameters())).values())

    def step(self, batch: Samples) -> float:
        """Take one step; returns the loss."""
        self._optimizer.zero_grad()
        with upstream_notices_muted():
            loss: Tensor = self._model(batch)
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())


def fused(task: FusedTask) -> Sharded:
    """Return the fused model as the product trains: under Sharded, with row-wise Adagrad."""
    return Sharded(task, task.embeddings, RATES, LayoutSettings())


def dense_optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser of the part that all models share."""
    return torch.optim.AdamW(parameters, lr=RATES.dense, weight_decay=RATES.decay)


def row_wise_adagrad(rows: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return what the fused tables do in the backward pass, done after it over whole tables."""
    optimizer: torch.optim.Optimizer = RowWiseAdagrad(rows, lr=RATES.embedding, eps=EPSILON)
    return optimizer


def sgd(rows: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the cheapest optimiser there is."""
    return torch.optim.SGD(rows, lr=RATES.embedding)


def adagrad(rows: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Adagrad with a sum for each weight, as torch gives it."""
    return torch.optim.Adagrad(rows, lr=RATES.embedding)


def adagrad_in_one_kernel(rows: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Adagrad in one kernel a table, the fastest that torch has."""
    return torch.optim.Adagrad(rows, lr=RATES.embedding, fused=True)


def adam(rows: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Adam, as torch gives it."""
    return torch.optim.Adam(rows, lr=RATES.dense)


def adam_in_one_kernel(rows: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Adam in one kernel a table, the fastest that torch has."""
    return torch.optim.Adam(rows, lr=RATES.dense, fused=True)


def _in_order(looked_up: KeyedTensor, names: Sequence[str]) -> Tensor:
    """Return the rows of the tables side by side, in the order of `names`; a plan decides in which they come out."""
    values: Tensor = looked_up.values()
    if list(looked_up.keys()) == names:
        return values
    # All at once: each slice taken by itself would get a gradient as wide as all tables together.
    by_name = dict(zip(looked_up.keys(), values.split(looked_up.length_per_key(), dim=1), strict=True))
    return torch.cat([by_name[name] for name in names], dim=1)


def _here(tensor: Tensor) -> Tensor:
    return tensor.contiguous().to(device())


def _layers(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width, following in pairwise(widths):
        layers += [nn.Linear(width, following), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
