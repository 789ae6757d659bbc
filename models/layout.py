"""The planner's part: how embedding tables are split over processes."""

from collections.abc import Iterator
from typing import Any

from torch import distributed, nn
from torchrec import EmbeddingBagCollection, EmbeddingCollection
from torchrec.distributed.comm import get_local_size
from torchrec.distributed.embedding import EmbeddingCollectionSharder
from torchrec.distributed.embedding_types import EmbeddingComputeKernel
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner
from torchrec.distributed.planner.storage_reservations import HeuristicalStorageReservation
from torchrec.distributed.planner.types import (
    KernelConfig,
    ParameterConstraints,
    PlannerError,
    TopologyFactory,
    TrainerConfig,
)
from torchrec.distributed.types import ModuleSharder, ShardingPlan, ShardingType
from torchrec.modules.embedding_configs import BaseEmbeddingConfig

from models.config import LayoutSettings
from streaming.errors import FlywheelError

_KINDS = tuple(kind.value for kind in (ShardingType.TABLE_WISE, ShardingType.COLUMN_WISE, ShardingType.ROW_WISE))


class NoLayout(FlywheelError):
    """The tables cannot be laid out as the settings say."""


class BagSharder(EmbeddingBagCollectionSharder):
    """Offers to split pooled tables by rows on the CPU too: its kernels can, but the base class names that for GPUs."""

    def sharding_types(self, compute_device_type: str) -> list[str]:
        """Return the names of all layouts that a table may have on such devices."""
        return list(dict.fromkeys((*super().sharding_types(compute_device_type), ShardingType.ROW_WISE.value)))


def sharders() -> list[ModuleSharder[nn.Module]]:
    """Return what splits each kind of collection."""
    return [BagSharder(), EmbeddingCollectionSharder()]


def plan(module: nn.Module, embeddings: nn.Module, device: str, settings: LayoutSettings) -> ShardingPlan:
    """Return the layout of all tables in `embeddings`, the same on every process, each of which must call this.

    `device` is the type of device that they will lie on, `module` the whole model. Raises NoLayout when the tables
    cannot be laid out in that way or do not fit.
    """
    world = distributed.get_world_size()
    local = get_local_size(world) if distributed.is_torchelastic_launched() else world
    topology = TopologyFactory.create_topology(
        TrainerConfig(world_size=world, local_world_size=local), kernel_config=KernelConfig(compute_device=device)
    )
    sparse = {id(parameter) for parameter in embeddings.parameters()}
    dense = sum(value.nbytes for value in module.parameters() if id(value) not in sparse)
    planner = EmbeddingShardingPlanner(
        topology=topology,
        storage_reservation=HeuristicalStorageReservation(percentage=0.15, dense_tensor_estimate=dense),
        constraints={config.name: _constraints(config, settings) for config in tables(embeddings)},
    )
    try:
        found: ShardingPlan = planner.collective_plan(module, sharders(), distributed.GroupMember.WORLD)
    except PlannerError as error:
        raise NoLayout(f"no {settings.sharding} layout of the tables was found: {error}") from error
    return found


def _constraints(config: BaseEmbeddingConfig, settings: LayoutSettings) -> ParameterConstraints:
    kinds = [settings.sharding]
    if settings.sharding == "auto":
        # In one process a table stays whole: the planner may think as well of rows, which are then sorted for nothing.
        kinds = list(_KINDS) if distributed.get_world_size() > 1 else [ShardingType.TABLE_WISE.value]
    options: dict[str, Any] = {}
    if settings.sharding == ShardingType.COLUMN_WISE.value:
        # As many columns on any number of processes: each shard of a row has its own accumulator of gradients, so
        # another cut is other arithmetic.
        options["min_partition"] = min(settings.columns, config.embedding_dim)
    # Only fused kernels update their rows in the backward pass, and no data-parallel table has one.
    return ParameterConstraints(compute_kernels=[EmbeddingComputeKernel.FUSED.value], sharding_types=kinds, **options)


def tables(embeddings: nn.Module) -> Iterator[BaseEmbeddingConfig]:
    """Yield the tables of all collections in it."""
    for module in embeddings.modules():
        if isinstance(module, EmbeddingCollection):
            yield from module.embedding_configs()
        elif isinstance(module, EmbeddingBagCollection):
            yield from module.embedding_bag_configs()
