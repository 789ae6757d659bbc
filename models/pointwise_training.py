"""Training of the pointwise ranker: cross-entropy over acts, hashed features in a sharded EmbeddingBagCollection."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchrec import EmbeddingBagCollection, KeyedJaggedTensor

from models.config import RankingSettings
from models.device_batch import DeviceBatch
from models.divergence import check_loss
from models.inputs import CATEGORY_TABLE, ITEM_TABLE, USER_TABLE
from models.pairs import pair_width
from models.pointwise import PointwiseInputs, PointwiseModel, TrainedPointwise, pooled
from models.pointwise_data import PointwiseData
from models.progress import Report, Step
from models.ranking_batches import jagged
from models.ranking_training import hashed_tables
from models.sharding import Rates, Sharded, own_part, total
from models.spec import NetworkSpec
from models.weights import load_weights

_AVERAGE = 0.99  # of the weights over the last steps
_FINAL_RATE = 0.05
_FORGOTTEN = 0.15  # share of ids that are left out of a step, as those of new users and items are


@dataclass(frozen=True)
class PointwiseBatch(PointwiseInputs, DeviceBatch):
    """One process's part of a step; `labels` and `weights` are float[n], the weights summing to 1 over all parts."""

    items: KeyedJaggedTensor
    users: KeyedJaggedTensor
    labels: Tensor
    weights: Tensor


class PointwiseTask(nn.Module):
    """The network with its embedding tables and its loss, the cross-entropy of the labels."""

    def __init__(self, settings: RankingSettings, spec: NetworkSpec, pairs: int) -> None:
        super().__init__()
        self.bags: EmbeddingBagCollection = hashed_tables(settings, (ITEM_TABLE, CATEGORY_TABLE))
        self.user_bags: EmbeddingBagCollection = hashed_tables(settings, (USER_TABLE,))
        self.model = PointwiseModel(spec, pairs, settings.attention_dim // 2)

    def forward(self, batch: PointwiseBatch) -> Tensor:
        """Return the weighted sum of the losses, times the number of processes, which average gradients."""
        items, users = self.bags(batch.items), self.user_bags(batch.users)
        # By name: in which order tables come out is up to the plan, and served are the item's before its categories'.
        embeddings = torch.cat((items[ITEM_TABLE], items[CATEGORY_TABLE], users[USER_TABLE]), dim=-1)
        logits = self.model(batch, embeddings)
        losses = functional.binary_cross_entropy_with_logits(logits, batch.labels, reduction="none")
        return (losses * batch.weights).sum() * torch.distributed.get_world_size()


def train_pointwise(
    settings: RankingSettings, data: PointwiseData, train: NDArray[np.int64], seed: int, report: Report
) -> TrainedPointwise:
    """Return the ranker fitted on the acts `train`. Every process must make the same call, in a process group.

    Of the settings those of the network and its training are read; the history is as long as the data's pairs.
    `report` hears of every step. Raises TrainingDiverged when the loss does.
    """
    torch.manual_seed(seed)
    spec = _network_spec(settings, data)
    task = PointwiseTask(settings, spec, pair_width(data.acts))
    task.model.network.standardise(torch.from_numpy(data.features.dense[train]))
    rates = Rates(settings.learning_rate, settings.embedding_learning_rate, settings.weight_decay, _AVERAGE)
    sharded = Sharded(task, nn.ModuleList((task.bags, task.user_bags)), rates, settings.layout)
    rng = np.random.default_rng(seed)
    count = max(1, len(train) // settings.batch_size)
    plan = [part for _ in range(settings.epochs) for part in np.array_split(rng.permutation(train), count)]
    losses: list[float] = []
    for number, part in enumerate(plan):
        share = _FINAL_RATE + (1 - _FINAL_RATE) * (1 - number / len(plan))
        losses.append(total(sharded.step(_batch(data, part, rng), share)) / torch.distributed.get_world_size())
        check_loss(losses)
        report(Step(number + 1, len(plan), losses[-1], rate=settings.learning_rate * share, samples=len(part)))
    return _trained(sharded.weights(), settings, data, spec)


def _network_spec(settings: RankingSettings, data: PointwiseData) -> NetworkSpec:
    """Return the network behind pair attention, whose output comes in among the embeddings."""
    return NetworkSpec(
        features=data.features.dense.shape[1],
        embeddings=3 * settings.embedding_dim + 2 * (settings.attention_dim // 2),
        vectors=0,
        places=0,
        attention=0,
        cross_layers=settings.cross_layers,
        hidden=settings.hidden,
        conversions=0,
    )


def _batch(data: PointwiseData, part: NDArray[np.int64], rng: np.random.Generator) -> PointwiseBatch:
    forgotten = rng.random((2, len(part))) < _FORGOTTEN
    own = own_part(len(part))
    mine, (no_item, no_user) = part[own], forgotten[:, own].tolist()
    items, users = data.acts.items[mine].tolist(), data.acts.users[mine].tolist()
    bags, inputs = data.bags, PointwiseInputs.of(data, mine)
    return PointwiseBatch(
        dense=inputs.dense,
        pairs=inputs.pairs,
        surprises=inputs.surprises,
        present=inputs.present,
        items=jagged(
            {
                ITEM_TABLE: [[] if gone else bags.item_ids[item] for item, gone in zip(items, no_item, strict=True)],
                CATEGORY_TABLE: [bags.categories[item] for item in items],
            }
        ),
        users=jagged(
            {USER_TABLE: [[] if gone else bags.users[user] for user, gone in zip(users, no_user, strict=True)]}
        ),
        labels=torch.from_numpy(data.acts.labels[mine]).float(),
        weights=torch.full((len(mine),), 1 / len(part)),
    )


def _trained(
    weights: dict[str, Tensor], settings: RankingSettings, data: PointwiseData, spec: NetworkSpec
) -> TrainedPointwise:
    model = PointwiseModel(spec, pair_width(data.acts), settings.attention_dim // 2)
    load_weights(model, weights, "model.")
    model.eval()
    items, categories = (weights[f"bags.embedding_bags.{table}.weight"] for table in (ITEM_TABLE, CATEGORY_TABLE))
    users = weights[f"user_bags.embedding_bags.{USER_TABLE}.weight"]
    by_item = torch.cat((pooled(items, data.bags.item_ids), pooled(categories, data.bags.categories)), dim=1)
    return TrainedPointwise(model, by_item, pooled(users, data.bags.users))
