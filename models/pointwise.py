"""The pointwise ranker: how likely an act is wanted, from dense features, hashed ids and the user's acts before it.

Torch without torchrec.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.acts import Bags
from models.pairs import pair_features
from models.pointwise_data import PointwiseData
from models.ranking import RankingModel
from models.spec import NetworkSpec

_ACTS_AT_ONCE = 1_000


@dataclass(frozen=True)
class PointwiseInputs:
    """What the network reads besides embeddings.

    `dense` is float[n, features], `pairs` float[n, places, features], `surprises` float[n, places] those of the acts
    before, of which `present`, bool[n, places], are no padding.
    """

    dense: Tensor
    pairs: Tensor
    surprises: Tensor
    present: Tensor

    @classmethod
    def of(cls, data: PointwiseData, part: NDArray[np.int64]) -> "PointwiseInputs":
        """Gather those of some acts."""
        history = data.pairs.history[part]
        surprises = np.where(history >= 0, data.features.surprises[history], 0.0).astype(np.float32)
        return cls(
            torch.from_numpy(data.features.dense[part]),
            torch.from_numpy(pair_features(data.acts, data.pairs, part)),
            torch.from_numpy(surprises),
            torch.from_numpy(history >= 0),
        )


class PairAttention(nn.Module):
    """Weighs the user's acts by what each has to do with the item in question, and averages their surprises.

    The weights come from a small network on the features of a pair, are not normalised to 1, and the mean is shrunk
    towards 0, so that a history without anything alike says little (G. Zhou et al., Deep interest network for
    click-through rate prediction, KDD 2018). Without a history the means are 0.
    """

    def __init__(self, features: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(features, hidden)
        self.outer = nn.Linear(hidden, heads)

    def forward(self, inputs: PointwiseInputs) -> Tensor:
        """Return float[n, 2 * heads]: the shrunk means and the logs of the weights' sums."""
        weights = functional.softplus(self.outer(torch.relu(self.inner(inputs.pairs))) - 1) * inputs.present[..., None]
        total = weights.sum(dim=1)
        mean = (weights * inputs.surprises[..., None]).sum(dim=1) / (total + 1)
        return torch.cat((3 * mean, torch.log1p(total) - 1), dim=-1)


class PointwiseModel(nn.Module):
    """The ranking network with pair attention in front; one logit an act."""

    def __init__(self, spec: NetworkSpec, pairs: int, heads: int) -> None:
        super().__init__()
        self.attention = PairAttention(pairs, heads, 4 * heads)
        self.network = RankingModel(spec)

    def forward(self, inputs: PointwiseInputs, embeddings: Tensor) -> Tensor:
        """Return float[n] logits; `embeddings` is float[n, width], the pooled hashed features."""
        logits: Tensor = self.network(inputs.dense, torch.cat((embeddings, self.attention(inputs)), dim=-1))
        return logits.squeeze(-1)


@dataclass(frozen=True)
class TrainedPointwise:
    """A trained network and the pooled embeddings by code: `items` float[items, 2 * dim], `users` float[users, dim]."""

    model: PointwiseModel
    items: Tensor
    users: Tensor

    def logits(self, data: PointwiseData, part: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return float64 logits of some acts."""
        found = [np.zeros(0)]
        for some in np.array_split(part, max(1, len(part) // _ACTS_AT_ONCE)):
            items = self.items[torch.from_numpy(data.acts.items[some])]
            users = self.users[torch.from_numpy(data.acts.users[some])]
            with torch.no_grad():
                logits = self.model(PointwiseInputs.of(data, some), torch.cat((items, users), dim=-1))
            found.append(logits.double().numpy())
        return np.concatenate(found)


def pooled(table: Tensor, bags: Bags) -> Tensor:
    """Return the sums of a table's rows by bag, float[bags, dim]."""
    return torch.stack([table[list(bag)].sum(dim=0) for bag in bags])
