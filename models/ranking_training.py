"""Training of the ranker: listwise over labelled groups, hashed features in sharded EmbeddingBagCollections."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedTensor

from models.checkpoints import Checkpoints, Run, digest
from models.config import RankingSettings
from models.content import ItemContent
from models.inputs import CATEGORY_TABLE, ITEM_TABLE, USER_TABLE, category_buckets, item_bucket
from models.norms import row_norms
from models.progress import Report, Step
from models.ranking import PositionBias, RankingModel, TrainedRanker
from models.ranking_batches import Batch, Batches
from models.ranking_dataset import RankingData
from models.sharding import Rates, Sharded, total
from models.spec import NetworkSpec
from models.weights import load_weights

_ABSENT = -1e9
_FINAL_RATE = 0.05


class RankingLoss(nn.Module):
    """The ranker with its losses.

    The choice's loss is the log likelihood of the wanted among the candidates. Sampled negatives stand for all others:
    their logits are corrected by how often they are drawn (logQ). What a slate's positions add is learnt apart from the
    network, which is served without. A conversion's loss is the cross-entropy over the chosen candidates.
    """

    def __init__(self, settings: RankingSettings, spec: NetworkSpec) -> None:
        super().__init__()
        self._conversion_weight = settings.conversion_weight
        self.model = RankingModel(spec, settings.attention_dropout)
        self.position = PositionBias()

    def forward(self, items: KeyedTensor, users: KeyedTensor, batch: Batch) -> Tensor:
        """Return the weighted sum of the losses, times the number of processes, which average gradients."""
        queries, candidates, _ = batch.dense.shape
        # By name: in which order tables come out is up to the plan, and served are the item's before its categories'.
        of_items = torch.cat((items[ITEM_TABLE], items[CATEGORY_TABLE]), dim=-1).reshape(queries, candidates, -1)
        of_users = users[USER_TABLE][:, None].expand(-1, candidates, -1)
        embeddings = torch.cat((of_items, of_users), dim=-1)
        logits = self.model(batch.dense, embeddings, batch.vectors, batch.history, batch.attended)
        losses = self._choice(logits[..., 0], batch) + self._conversion_weight * _conversions(logits[..., 1:], batch)
        return (losses * batch.weights).sum() * torch.distributed.get_world_size()

    def _choice(self, logits: Tensor, batch: Batch) -> Tensor:
        seen = logits + self.position(batch.positions) - batch.corrections
        wanted = batch.labels / batch.labels.sum(dim=1, keepdim=True)
        return -(wanted * torch.log_softmax(seen.masked_fill(~batch.present, _ABSENT), dim=1)).sum(dim=1)


class RankingTask(nn.Module):
    """Looks up the rows of a batch and gives them to the loss; nothing else, so that the lookups can be pipelined."""

    def __init__(self, settings: RankingSettings, spec: NetworkSpec) -> None:
        super().__init__()
        self.item_bags = hashed_tables(settings, (ITEM_TABLE, CATEGORY_TABLE))
        self.user_bags = hashed_tables(settings, (USER_TABLE,))
        self.loss = RankingLoss(settings, spec)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss."""
        loss: Tensor = self.loss(self.item_bags(batch.items), self.user_bags(batch.users), batch)
        return loss


def train_ranker(
    settings: RankingSettings,
    items: Sequence[ItemContent],
    data: RankingData,
    seed: int,
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> tuple[TrainedRanker, list[float]]:
    """Return the trained ranker and each step's loss. Every process must make the same call.

    `report` hears of every step. With checkpoints the same call goes on where an interrupted one was last saved;
    raises OtherRun when they are of another call, NotSaved. Raises TrainingDiverged when the loss does.
    """
    groups = data.groups
    torch.manual_seed(seed)
    spec = network_spec(settings, data)
    task = RankingTask(settings, spec)
    task.loss.model.standardise(torch.from_numpy(data.dense[groups.present[data.group]]))
    rates = Rates(settings.learning_rate, settings.embedding_learning_rate, settings.weight_decay)
    sharded = Sharded(task, nn.ModuleList((task.item_bags, task.user_bags)), rates, settings.layout)
    batches = Batches(settings, items, data)
    rng = np.random.default_rng(seed)
    run = Run(checkpoints, sharded, rng, _name(settings, items, data, seed) if checkpoints else "")
    usable = np.flatnonzero(groups.labels[data.group].any(axis=1))
    count = max(1, len(usable) // settings.batch_size)
    plan = [part for _ in range(settings.epochs) for part in np.array_split(rng.permutation(usable), count)]

    def rate(number: int) -> float:
        return _FINAL_RATE + (1 - _FINAL_RATE) * (1 - number / len(plan))

    def step(number: int, part: NDArray[np.int64]) -> tuple[Batch, float]:
        return batches.batch(part, rng), rate(number)

    for loss in sharded.losses(run.batches(plan, step)):
        run.add(total(loss) / torch.distributed.get_world_size())
        done = len(run.losses)
        report(
            Step(
                done,
                len(plan),
                run.losses[-1],
                rate=settings.learning_rate * rate(done - 1),
                samples=len(plan[done - 1]),
                norms=row_norms(sharded.tables()) if done % count == 0 else {},
            )
        )
    return _trained(settings, items, sharded.weights(), spec), run.losses


def _name(settings: RankingSettings, items: Sequence[ItemContent], data: RankingData, seed: int) -> str:
    """Return a sum over everything that the training depends on, but for the layout of the tables."""
    texts = settings.model_dump_json(exclude={"layout"}), str(seed), *(item.item_id for item in items)
    groups, acts = data.groups, data.conversions
    return digest(
        *texts,
        data.dense,
        data.group,
        data.recent,
        data.vectors,
        data.cold,
        groups.users,
        groups.rows,
        groups.labels,
        groups.sampled,
        groups.positions,
        acts.labels,
        acts.known,
        acts.held_out,
    )


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
    load_weights(model, weights, "loss.model.")
    model.eval()
    by_item = weights[f"item_bags.embedding_bags.{ITEM_TABLE}.weight"]
    categories = weights[f"item_bags.embedding_bags.{CATEGORY_TABLE}.weight"]
    own = by_item[torch.tensor([item_bucket(item.item_id, settings.buckets) for item in items])]
    pooled = torch.stack([categories[category_buckets(item.categories, settings.buckets)].sum(dim=0) for item in items])
    users = weights[f"user_bags.embedding_bags.{USER_TABLE}.weight"]
    positions = weights["loss.position.bias"] - weights["loss.position.bias"][0]
    return TrainedRanker(spec, model, torch.cat((own, pooled), dim=1), categories, users, positions)
