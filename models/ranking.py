"""The ranker as it is served: a deep and cross network with target attention and a head for each task.

R. Wang et al., DCN V2: Improved deep and cross network, WWW 2021. Torch without torchrec.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.attention import TargetAttention
from models.spec import NetworkSpec

_POSITIONS = 50  # that are told apart; the last one stands for all further down
_EXTREME = 5.0  # standard deviations beyond which an input tells no more


class RankingModel(nn.Module):
    """Scores candidates one by one: a candidate's logits do not depend on which others are asked about."""

    def __init__(self, spec: NetworkSpec, attention_dropout: float = 0.0) -> None:
        super().__init__()
        attended = spec.attention if spec.places else 0
        width = spec.features + spec.embeddings + attended
        self.register_buffer("mean", torch.zeros(spec.features))
        self.register_buffer("deviation", torch.ones(spec.features))
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(spec.cross_layers))
        self.deep_in = nn.Linear(width, spec.hidden)
        self.deep_out = nn.Linear(spec.hidden, spec.hidden)
        self.heads = nn.Linear(width + spec.hidden, 1 + spec.conversions)
        nn.init.zeros_(self.heads.weight)
        self.attention = (
            TargetAttention(spec.vectors, spec.places, spec.attention, attention_dropout) if spec.places else None
        )

    def standardise(self, dense: Tensor) -> None:
        """Take mean and deviation of the features from `dense`, float [n, features]."""
        self.mean = dense.mean(dim=0)
        deviation = dense.std(dim=0) if len(dense) > 1 else torch.zeros_like(self.mean)
        # A feature that never varies is switched off, so that it cannot matter when it does vary later.
        self.deviation = torch.where(deviation > 1e-6, deviation, torch.inf)

    def forward(
        self,
        dense: Tensor,
        embeddings: Tensor,
        items: Tensor | None = None,
        history: Tensor | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Return float [queries, candidates, 1 + conversions]: the logits of the choice and of each conversion.

        Everything is gathered from the tables: `dense` float [queries, candidates, features], `embeddings` float
        [queries, candidates, width] the pooled hashed features, `items` float [queries, candidates, vectors], `history`
        float [queries, places, vectors] newest first, of which `present`, bool [queries, places], are no padding.
        Without target attention the last three are not read.
        """
        scaled = ((dense - self.mean) / self.deviation).clamp(-_EXTREME, _EXTREME)
        parts = [scaled, embeddings]
        if self.attention is not None:
            parts.append(self.attention(items, history, present))
        x = torch.cat(parts, dim=-1)
        crossed = x
        for cross in self.crosses:
            crossed = x * cross(crossed) + crossed
        deep = torch.relu(self.deep_out(torch.relu(self.deep_in(x))))
        logits: Tensor = self.heads(torch.cat((crossed, deep), dim=-1))
        return logits


class PositionBias(nn.Module):
    """What a place on a slate adds to the logit of the choice, beside what the top adds. It is trained and not served.

    H. Guo et al., PAL: a position-bias aware learning framework for CTR prediction in live recommender systems,
    RecSys 2019; there factors of a probability, here summands of a logit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(_POSITIONS))

    def forward(self, positions: Tensor) -> Tensor:
        """Return float in the shape of `positions`, int64, from 0 = the top."""
        relative: Tensor = (self.bias - self.bias[0])[positions.clamp(max=_POSITIONS - 1)]
        return relative


@dataclass(frozen=True)
class TrainedRanker:
    """The servable network and its tables, float [buckets, dim] each; `items` is pooled, float [items, 2 * dim].

    `positions`, float [positions], is what each place on a slate adds to the choice's logit; it is not served.
    """

    spec: NetworkSpec
    model: RankingModel
    items: Tensor
    categories: Tensor
    users: Tensor
    positions: Tensor

    def embeddings(self, rows: Tensor, user_bags: Sequence[Sequence[int]]) -> Tensor:
        """Return float [queries, candidates, width] for item rows int64 [queries, candidates] and a bag a query."""
        users = torch.stack([self.users[list(bag)].sum(dim=0) for bag in user_bags])
        return torch.cat((self.items[rows], users[:, None].expand(-1, rows.shape[1], -1)), dim=-1)
