"""Training of the ranker: listwise over labelled groups, hashed features in sharded EmbeddingBagCollections."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, KeyedJaggedTensor, KeyedTensor

from models.checkpoints import Checkpoints, Run, digest
from models.config import RankingSettings
from models.content import ItemContent
from models.device_batch import DeviceBatch
from models.groups import Groups
from models.inputs import CATEGORY_TABLE, ITEM_TABLE, USER_TABLE, category_buckets, item_bucket
from models.norms import row_norms
from models.progress import Report, Step
from models.ranking import RankingModel
from models.ranking_dataset import RankingData
from models.sharding import Rates, Sharded, load_weights, own_part, total

_ABSENT = -1e9
_FINAL_RATE = 0.05
_FORGOTTEN = 0.15  # share of candidates trained without their item's own embedding, as new items are scored

Bag = Sequence[int]


@dataclass(frozen=True)
class Batch(DeviceBatch):
    """One process's part of a step: `dense` float [queries, candidates, features], the others [queries, candidates].

    `corrections` is the log of how often a candidate is expected in a group, 0 where it is no sampled one. `weights`,
    float [queries], sum to 1 over all processes' parts.
    """

    dense: Tensor
    items: KeyedJaggedTensor
    users: KeyedJaggedTensor
    corrections: Tensor
    present: Tensor
    labels: Tensor
    weights: Tensor


class RankingLoss(nn.Module):
    """The ranker with its loss: the log likelihood of the wanted among the candidates.

    Sampled negatives stand for all others: their logits are corrected by how often they are drawn (logQ).
    """

    def __init__(self, settings: RankingSettings, features: int) -> None:
        super().__init__()
        self.model = RankingModel(features, 3 * settings.embedding_dim, settings.hidden)

    def forward(self, items: KeyedTensor, users: KeyedTensor, batch: Batch) -> Tensor:
        """Return the weighted sum of the losses, times the number of processes, which average gradients."""
        queries, candidates, features = batch.dense.shape
        # By name: in which order tables come out is up to the plan, and served are the item's before its categories'.
        looked_up = items[ITEM_TABLE], items[CATEGORY_TABLE], users[USER_TABLE].repeat_interleave(candidates, dim=0)
        embeddings = torch.cat(looked_up, dim=-1)
        scores = self.model(batch.dense.reshape(-1, features), embeddings)
        logits = (scores.reshape(queries, candidates) - batch.corrections).masked_fill(~batch.present, _ABSENT)
        wanted = batch.labels / batch.labels.sum(dim=1, keepdim=True)
        losses = -(wanted * torch.log_softmax(logits, dim=1)).sum(dim=1)
        return (losses * batch.weights).sum() * torch.distributed.get_world_size()


class RankingTask(nn.Module):
    """Looks up the rows of a batch and gives them to the loss; nothing else, so that the lookups can be pipelined."""

    def __init__(self, settings: RankingSettings, features: int) -> None:
        super().__init__()
        self.item_bags = _bags(settings, (ITEM_TABLE, CATEGORY_TABLE))
        self.user_bags = _bags(settings, (USER_TABLE,))
        self.loss = RankingLoss(settings, features)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss."""
        loss: Tensor = self.loss(self.item_bags(batch.items), self.user_bags(batch.users), batch)
        return loss


@dataclass(frozen=True)
class TrainedRanker:
    """The servable network and its tables, float [buckets, dim] each; `items` is pooled, float [items, 2 * dim]."""

    model: RankingModel
    items: Tensor
    categories: Tensor
    users: Tensor


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
    task = RankingTask(settings, data.dense.shape[2])
    present = groups.present[data.group]
    task.loss.model.standardise(torch.from_numpy(data.dense[present]))
    rates = Rates(settings.learning_rate, settings.embedding_learning_rate, settings.weight_decay)
    sharded = Sharded(task, nn.ModuleList((task.item_bags, task.user_bags)), rates, settings.layout)
    batches = _Batches(settings, items, data)
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
    return _trained(settings, items, sharded.weights(), data.dense.shape[2]), run.losses


def _name(settings: RankingSettings, items: Sequence[ItemContent], data: RankingData, seed: int) -> str:
    """Return a sum over everything that the training depends on, but for the layout of the tables."""
    texts = settings.model_dump_json(exclude={"layout"}), str(seed), *(item.item_id for item in items)
    groups = data.groups
    return digest(*texts, data.dense, data.group, groups.users, groups.rows, groups.labels, groups.sampled)


class _Batches:
    """Puts batches together."""

    def __init__(self, settings: RankingSettings, items: Sequence[ItemContent], data: RankingData) -> None:
        groups = data.groups
        self._groups, self._data = groups, data
        self._item_bags = [item_bucket(item.item_id, settings.buckets) for item in items]
        self._category_bags = [category_buckets(item.categories, settings.buckets) for item in items]
        self._user_bags = groups.user_buckets(settings.buckets)
        self._corrections = _corrections(groups, len(items))
        self._weights = _query_weights(groups.users[data.group])

    def batch(self, part: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        """Return this process's part of the queries `part`."""
        groups = self._data.group[part]
        forgotten = rng.random((len(part), self._groups.rows.shape[1])) < _FORGOTTEN
        own = own_part(len(part))
        weights = self._weights[part] / self._weights[part].sum()
        mine = groups[own]
        return Batch(
            dense=torch.from_numpy(self._data.dense[part[own]]),
            items=self._items(self._groups.rows[mine], forgotten[own]),
            users=_jagged({USER_TABLE: [self._user_bags[group] for group in mine]}),
            corrections=torch.from_numpy(self._corrections[mine]),
            present=torch.from_numpy(self._groups.present[mine]),
            labels=torch.from_numpy(self._groups.labels[mine]),
            weights=torch.from_numpy(weights[own]).float(),
        )

    def _items(self, rows: NDArray[np.int64], forgotten: NDArray[np.bool_]) -> KeyedJaggedTensor:
        flat, without = rows.ravel().tolist(), forgotten.ravel().tolist()
        return _jagged(
            {
                ITEM_TABLE: [[] if gone else [self._item_bags[row]] for row, gone in zip(flat, without, strict=True)],
                CATEGORY_TABLE: [self._category_bags[row] for row in flat],
            }
        )


def _bags(settings: RankingSettings, tables: Sequence[str]) -> EmbeddingBagCollection:
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


def _jagged(bags: dict[str, list[Bag]]) -> KeyedJaggedTensor:
    lengths = [len(bag) for column in bags.values() for bag in column]
    values = [bucket for column in bags.values() for bag in column for bucket in bag]
    return KeyedJaggedTensor.from_lengths_sync(
        keys=list(bags), values=torch.tensor(values, dtype=torch.int64), lengths=torch.tensor(lengths)
    )


def _corrections(groups: Groups, items: int) -> NDArray[np.float32]:
    """Return the log of the mean number of times that each sampled candidate is in a group, as the groups show it."""
    drawn = np.bincount(groups.rows[groups.sampled], minlength=items) + 1.0
    expected = np.log(drawn / max(len(groups), 1))[groups.rows]
    return np.where(groups.sampled, expected, 0.0).astype(np.float32)


def _query_weights(users: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return 1/sqrt(queries of the user): between every query and every user counting the same."""
    _, index, counts = np.unique(users, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / np.sqrt(counts[index])
    return weights


def _trained(
    settings: RankingSettings, items: Sequence[ItemContent], weights: dict[str, Tensor], features: int
) -> TrainedRanker:
    model = RankingModel(features, 3 * settings.embedding_dim, settings.hidden)
    load_weights(model, weights, "loss.model.")
    model.eval()
    by_item = weights[f"item_bags.embedding_bags.{ITEM_TABLE}.weight"]
    categories = weights[f"item_bags.embedding_bags.{CATEGORY_TABLE}.weight"]
    own = by_item[torch.tensor([item_bucket(item.item_id, settings.buckets) for item in items])]
    pooled = torch.stack([categories[category_buckets(item.categories, settings.buckets)].sum(dim=0) for item in items])
    users = weights[f"user_bags.embedding_bags.{USER_TABLE}.weight"]
    return TrainedRanker(model, torch.cat((own, pooled), dim=1), categories, users)
