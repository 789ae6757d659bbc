"""Training of the ranker: listwise over labelled groups, hashed features in sharded EmbeddingBagCollections."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

from models.config import RankingSettings
from models.content import ItemContent
from models.divergence import check_loss
from models.inputs import CATEGORY_TABLE, ITEM_TABLE, USER_TABLE, category_buckets, item_bucket
from models.ranking import PositionBias, RankingModel, TrainedRanker
from models.ranking_batches import Batch, Batches
from models.ranking_dataset import RankingData
from models.sharding import Rates, Sharded, load_weights, total
from models.spec import NetworkSpec

_ABSENT = -1e9
_FINAL_RATE = 0.05

Report = Callable[[float], None]


class RankingTask(nn.Module):
    """The ranker with its embedding tables and its losses.

    The choice's loss is the log likelihood of the wanted among the candidates. Sampled negatives stand for all others:
    their logits are corrected by how often they are drawn (logQ). What a slate's positions add is learnt apart from the
    network, which is served without. A conversion's loss is the cross-entropy over the chosen candidates.
    """

    def __init__(self, settings: RankingSettings, spec: NetworkSpec) -> None:
        super().__init__()
        self._conversion_weight = settings.conversion_weight
        self.item_bags = hashed_tables(settings, (ITEM_TABLE, CATEGORY_TABLE))
        self.user_bags = hashed_tables(settings, (USER_TABLE,))
        self.model = RankingModel(spec)
        self.position = PositionBias()

    def forward(self, batch: Batch) -> Tensor:
        """Return the weighted sum of the losses, times the number of processes, which average gradients."""
        queries, candidates, _ = batch.dense.shape
        items = self.item_bags(batch.items).values().reshape(queries, candidates, -1)
        users = self.user_bags(batch.users).values()[:, None].expand(-1, candidates, -1)
        embeddings = torch.cat((items, users), dim=-1)
        logits = self.model(batch.dense, embeddings, batch.vectors, batch.history, batch.attended)
        losses = self._choice(logits[..., 0], batch) + self._conversion_weight * _conversions(logits[..., 1:], batch)
        return (losses * batch.weights).sum() * torch.distributed.get_world_size()

    def _choice(self, logits: Tensor, batch: Batch) -> Tensor:
        seen = logits + self.position(batch.positions) - batch.corrections
        wanted = batch.labels / batch.labels.sum(dim=1, keepdim=True)
        return -(wanted * torch.log_softmax(seen.masked_fill(~batch.present, _ABSENT), dim=1)).sum(dim=1)


def train_ranker(
    settings: RankingSettings, items: Sequence[ItemContent], data: RankingData, seed: int, report: Report
) -> tuple[TrainedRanker, list[float]]:
    """Return the trained ranker and each step's loss. Every process must make the same call.

    `report` hears of every step with the share that is done. Raises TrainingDiverged when the loss does.
    """
    groups = data.groups
    torch.manual_seed(seed)
    spec = network_spec(settings, data)
    task = RankingTask(settings, spec)
    task.model.standardise(torch.from_numpy(data.dense[groups.present[data.group]]))
    rates = Rates(settings.learning_rate, settings.embedding_learning_rate, settings.weight_decay)
    sharded = Sharded(task, nn.ModuleList((task.item_bags, task.user_bags)), rates)
    batches = Batches(settings, items, data)
    rng = np.random.default_rng(seed)
    usable = np.flatnonzero(groups.labels[data.group].any(axis=1))
    count = max(1, len(usable) // settings.batch_size)
    plan = [part for _ in range(settings.epochs) for part in np.array_split(rng.permutation(usable), count)]
    losses: list[float] = []
    for number, part in enumerate(plan):
        share = _FINAL_RATE + (1 - _FINAL_RATE) * (1 - number / len(plan))
        losses.append(total(sharded.step(batches.batch(part, rng), share)) / torch.distributed.get_world_size())
        check_loss(losses)
        report((number + 1) / len(plan))
    return _trained(settings, items, sharded.weights(), spec), losses


def network_spec(settings: RankingSettings, data: RankingData) -> NetworkSpec:
    """Return the network that fits the data."""
    return NetworkSpec(
        features=data.dense.shape[2],
        embeddings=3 * settings.embedding_dim,
        vectors=data.vectors.shape[1],
        places=settings.attended_items,
        attention=settings.attention_dim,
        cross_layers=settings.cross_layers,
        hidden=settings.hidden,
        conversions=len(data.conversions.names),
    )


def _conversions(logits: Tensor, batch: Batch) -> Tensor:
    """Return float [queries]: the mean cross-entropy of each task over a query's labels, summed over the tasks."""
    losses = functional.binary_cross_entropy_with_logits(logits, batch.converted, reduction="none") * batch.trained
    return (losses.sum(dim=1) / batch.trained.sum(dim=1).clamp(min=1)).sum(dim=1)


def hashed_tables(settings: RankingSettings, tables: Sequence[str]) -> EmbeddingBagCollection:
    """Return the tables of hashed features, with small weights, so that a row that was never trained says little."""
    return EmbeddingBagCollection(
        tables=[
            EmbeddingBagConfig(
                name=table,
                embedding_dim=settings.embedding_dim,
                num_embeddings=settings.buckets,
                feature_names=[table],
                weight_init_min=-0.01,
                weight_init_max=0.01,
            )
            for table in tables
        ]
    )


def _trained(
    settings: RankingSettings, items: Sequence[ItemContent], weights: dict[str, Tensor], spec: NetworkSpec
) -> TrainedRanker:
    model = RankingModel(spec)
    load_weights(model, weights, "model.")
    model.eval()
    by_item = weights[f"item_bags.embedding_bags.{ITEM_TABLE}.weight"]
    categories = weights[f"item_bags.embedding_bags.{CATEGORY_TABLE}.weight"]
    own = by_item[torch.tensor([item_bucket(item.item_id, settings.buckets) for item in items])]
    pooled = torch.stack([categories[category_buckets(item.categories, settings.buckets)].sum(dim=0) for item in items])
    users = weights[f"user_bags.embedding_bags.{USER_TABLE}.weight"]
    positions = weights["position.bias"] - weights["position.bias"][0]
    return TrainedRanker(spec, model, torch.cat((own, pooled), dim=1), categories, users, positions)
