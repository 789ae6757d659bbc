"""Training on sharded embeddings: the same code in one process, on N gloo processes and on N GPUs under torchrun."""

import tempfile
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist
from torchrec.distributed.types import ShardingPlan
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from models.config import EmbeddingOptimizer, LayoutSettings
from models.device_batch import DeviceBatch
from models.layout import plan, sharders, tables
from models.quiet import upstream_notices_muted
from models.shards import Weight, like, local_parts, put, whole

EPSILON = 1e-8
"""Of row-wise Adagrad; said here since FBGEMM and TorchRec differ in what they take by themselves."""


@contextmanager
def process_group() -> Iterator[None]:
    """Join the process group that torchrun describes, else one of this process alone; use an existing one as it is."""
    if distributed.is_initialized():
        yield
        return
    if distributed.is_torchelastic_launched():
        distributed.init_process_group(backend())
        try:
            yield
        finally:
            distributed.destroy_process_group()
        return
    with tempfile.TemporaryDirectory() as folder:
        store = (Path(folder) / "rendezvous").as_uri()
        distributed.init_process_group(backend(), init_method=store, rank=0, world_size=1)
        try:
            yield
        finally:
            distributed.destroy_process_group()


@contextmanager
def limited_threads(threads: int) -> Iterator[None]:
    """Let torch compute on so many CPU threads meanwhile; the number decides the order of sums, so the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def backend() -> str:
    """Return the collective library for this machine's devices."""
    return "nccl" if torch.cuda.is_available() else "gloo"


def device() -> torch.device:
    """Return this process's device; with GPUs each process of a machine takes its own."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", distributed.get_node_local_rank(fallback_rank=0))


def overlaps() -> bool:
    """Whether the next batches are prepared while one is trained on: worth it where the device works by itself."""
    return device().type == "cuda"


@dataclass(frozen=True)
class Rates:
    """Learning rates, the weight decay of the dense weights, and the decay of the weights' running average (0: none).

    Row-wise Adagrad updates in the backward pass the rows of sharded tables that are in use; with Adam, which updates
    all rows after it, every process has a whole table.
    B. Polyak and A. Juditsky, Acceleration of stochastic approximation by averaging, SIAM J. Control 30(4), 1992.
    """

    dense: float
    embedding: float
    decay: float
    average: float = 0.0
    rows: EmbeddingOptimizer = "rowwise_adagrad"
    second_moment: float = 0.999


class Sharded:
    """A training module under DistributedModelParallel with its optimisers.

    Dense weights are updated by AdamW, embedding rows as the rates say. With `bfloat16`, matrices are multiplied in
    that precision where the CPU can.
    """

    def __init__(
        self,
        module: nn.Module,
        embeddings: nn.Module,
        rates: Rates,
        layout: LayoutSettings,
        bfloat16: bool = False,
    ) -> None:
        start = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self._learnt = {name for name, _ in module.named_parameters()}
        fused = rates.rows == "rowwise_adagrad"
        if fused:
            row_rates = {"lr": rates.embedding, "eps": EPSILON}
            apply_optimizer_in_backward(RowWiseAdagrad, embeddings.parameters(), row_rates)
        with upstream_notices_muted():
            # Without a plan every process has the tables as it has the dense weights.
            self.plan = plan(module, embeddings, device().type, layout) if fused else ShardingPlan({})
            split = sharders() if fused else []
            self._module = DistributedModelParallel(
                module,
                device=device(),
                plan=self.plan,
                sharders=split,
                # Alone there is nobody to average dense gradients with, and each step would pay for it; but DDP is also
                # what brings dense weights to a GPU.
                init_data_parallel=distributed.get_world_size() > 1 or device().type == "cuda",
            )
            # Sharded tables draw their rows anew, each process its own; all layouts are to start from the same ones.
            for name, value in self._module.state_dict().items():
                put(value, start[name])
        dense = dict(in_backward_optimizer_filter(self._module.named_parameters()))
        self._tables = tuple(f".{table.name}.weight" for table in tables(embeddings))
        self._dense = torch.optim.AdamW(_groups(dense, rates, self._tables), betas=(0.9, rates.second_moment))
        self._optimizer = CombinedOptimizer(
            [("rows", self._module.fused_optimizer), ("dense", KeyedOptimizerWrapper(dense, lambda _: self._dense))]
        )
        self._rates = rates
        self._bfloat16 = bfloat16
        learnt = (value for name, value in self._module.state_dict().items() if name in self._learnt)
        self._live = [part for value in learnt for part in local_parts(value)]
        self._averages = [part.clone() for part in self._live] if rates.average else []
        self._steps = 0

    def step(self, batch: DeviceBatch, share: float) -> float:
        """Take one step at `share` of the learning rates; returns this process's part of the loss."""
        self._module.train()
        self._set_rates(share)
        self._optimizer.zero_grad()
        with _multiplying(self._bfloat16):
            with upstream_notices_muted():
                loss = self._module(batch.to(device()))
            loss.backward()
        self._optimizer.step()
        self._average()
        return float(loss.detach())

    def losses(self, steps: Iterable[tuple[DeviceBatch, float]]) -> Iterator[float]:
        """Take a step with each batch at its share of the learning rates; yields this process's part of each loss.

        On a GPU the next two batches are asked for early, to be copied and their ids sent to the shards meanwhile,
        where there are any.
        """
        if overlaps() and self.plan.plan:
            yield from self._overlapped(steps)
        else:
            yield from (self.step(batch, share) for batch, share in steps)

    def _overlapped(self, steps: Iterable[tuple[DeviceBatch, float]]) -> Iterator[float]:
        shares: deque[float] = deque()

        def batches() -> Iterator[DeviceBatch]:
            for batch, share in steps:
                shares.append(share)
                yield batch.pin_memory() if device().type == "cuda" else batch

        def forward(batch: DeviceBatch) -> tuple[Tensor, Tensor]:
            self._set_rates(shares.popleft())
            # The rows' rate is taken over when gradients are cleared, which was done before this batch's was known.
            self._optimizer.zero_grad()
            loss: Tensor = self._module(batch)
            return loss, loss.detach()

        self._module.train()
        pipeline = TrainPipelineSparseDist(self._module, self._optimizer, device(), custom_model_fwd=forward)
        source = batches()
        try:
            while True:
                with _multiplying(self._bfloat16), upstream_notices_muted():
                    loss = pipeline.progress(source)
                self._average()
                yield float(loss)
        except StopIteration:
            return
        finally:
            pipeline.detach()

    def weights(self) -> dict[str, Tensor]:
        """Return copies of all weights by name, put together from their shards, on the CPU; every process gets them.

        They are the running averages where those are kept.
        """
        with upstream_notices_muted(), self._averaged():
            return {name: whole(value, device()) for name, value in self._module.state_dict().items()}

    def put_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Set all weights, and their running averages, to whole ones by name; raises KeyError when one is missing."""
        with upstream_notices_muted():
            for name, value in self._module.state_dict().items():
                put(value, weights[name])
        for average, part in zip(self._averages, self._live, strict=False):
            average.copy_(part)

    def _average(self) -> None:
        self._steps += 1
        # Young averages forget faster, or the first weights would stay in them.
        decay = min(self._rates.average, (1 + self._steps) / (10 + self._steps))
        for average, part in zip(self._averages, self._live, strict=False):
            average.lerp_(part, 1 - decay)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Put the running averages in the weights' place meanwhile."""
        kept = [part.clone() for part in self._live] if self._averages else []
        for part, average in zip(self._live, self._averages, strict=False):
            part.copy_(average)
        try:
            yield
        finally:
            for part, own in zip(self._live, kept, strict=False):
                part.copy_(own)

    def shapes(self) -> dict[str, list[int]]:
        """Return the shape of each weight by name, tables as a whole."""
        with upstream_notices_muted():
            return {name: list(value.size()) for name, value in self._module.state_dict().items()}

    def tables(self) -> dict[str, Weight]:
        """Return the embedding tables by name: this process's parts, not copies."""
        with upstream_notices_muted():
            weights = self._module.state_dict()
        return {name.split(".")[-2]: value for name, value in weights.items() if name.endswith(self._tables)}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, their averages and the optimisers' states by name: this process's parts, not copies."""
        if not self._dense.state:
            self._start_dense_state()
        with upstream_notices_muted():
            module, optimizer = self._module.state_dict(), self._optimizer.state_dict()["state"]
        parts = iter(self._averages)
        learnt = self._learnt if self._averages else ()
        averages = {name: like(value, parts) for name, value in module.items() if name in learnt}
        return {"module": module, "average": averages, "optimizer": optimizer, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what was read into the tensors of `state_dict`."""
        self._steps = state["steps"]

    def _start_dense_state(self) -> None:
        """Make the optimiser's state, which it otherwise makes in the first step, as it is before that step."""
        for group in self._dense.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        self._dense.step()
        self._dense.zero_grad()
        for values in self._dense.state.values():
            for value in values.values():
                value.zero_()

    def _set_rates(self, share: float) -> None:
        for group in self._dense.param_groups:
            group["lr"] = group["peak"] * share
        for group in self._module.fused_optimizer.param_groups:
            group["lr"] = self._rates.embedding * share


def is_first() -> bool:
    """Whether this process is the one that writes results."""
    return distributed.get_rank() == 0


def of_first(values: Sequence[int]) -> list[int]:
    """Return the first process's values, whatever this one's are; as many must be given everywhere."""
    tensor = torch.tensor(values, dtype=torch.int64, device=device())
    distributed.broadcast(tensor, 0)
    return [int(value) for value in tensor.tolist()]


def total(value: float) -> float:
    """Return the sum of `value` over all processes."""
    tensor = torch.tensor(value, dtype=torch.float64, device=device())
    distributed.all_reduce(tensor)
    return float(tensor)


def own_part(count: int) -> slice:
    """Return which of `count` things, of which there are at least as many as processes, this process works on."""
    world, rank = distributed.get_world_size(), distributed.get_rank()
    return slice(count * rank // world, count * (rank + 1) // world)


def _groups(parameters: Mapping[str, nn.Parameter], rates: Rates, tables: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return what Adam updates: dense weights, which decay, and the tables that no fused optimiser updates."""
    rows = [value for name, value in parameters.items() if name.endswith(tables)]
    dense = [value for name, value in parameters.items() if not name.endswith(tables)]
    groups = (
        {"params": dense, "lr": rates.dense, "peak": rates.dense, "weight_decay": rates.decay},
        {"params": rows, "lr": rates.embedding, "peak": rates.embedding, "weight_decay": 0.0},
    )
    return [group for group in groups if group["params"]]


@contextmanager
def _multiplying(bfloat16: bool) -> Iterator[None]:
    """Let oneDNN round the factors of float32 products to bfloat16 meanwhile; sums stay float32."""
    products: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16" if bfloat16 else before
    try:
        yield
    finally:
        products.fp32_precision = before
