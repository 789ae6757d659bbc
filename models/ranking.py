"""The ranker as it is served: a deep and cross network over dense features and pooled embeddings.

R. Wang et al., DCN V2: Improved deep and cross network, WWW 2021.
"""

import torch
from torch import Tensor, nn

_EXTREME = 5.0  # standard deviations beyond which an input tells no more


class RankingModel(nn.Module):
    """Scores candidates one by one: a candidate's score does not depend on which others are asked about."""

    def __init__(self, features: int, embeddings: int, hidden: int) -> None:
        super().__init__()
        width = features + embeddings
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("deviation", torch.ones(features))
        self.cross = nn.Linear(width, width)
        self.deep_in = nn.Linear(width, hidden)
        self.deep_out = nn.Linear(hidden, hidden)
        self.out = nn.Linear(width + hidden, 1)
        nn.init.zeros_(self.out.weight)

    def standardise(self, dense: Tensor) -> None:
        """Take mean and deviation of the features from `dense`, float [n, features]."""
        self.mean = dense.mean(dim=0)
        deviation = dense.std(dim=0) if len(dense) > 1 else torch.zeros_like(self.mean)
        # A feature that never varies is switched off, so that it cannot matter when it does vary later.
        self.deviation = torch.where(deviation > 1e-6, deviation, torch.inf)

    def forward(self, dense: Tensor, embeddings: Tensor) -> Tensor:
        """Return float [n] for features float [n, features] and pooled embeddings float [n, embeddings]."""
        scaled = ((dense - self.mean) / self.deviation).clamp(-_EXTREME, _EXTREME)
        x = torch.cat((scaled, embeddings), dim=-1)
        crossed = x * self.cross(x) + x
        deep = torch.relu(self.deep_out(torch.relu(self.deep_in(x))))
        scores: Tensor = self.out(torch.cat((crossed, deep), dim=-1)).squeeze(-1)
        return scores
