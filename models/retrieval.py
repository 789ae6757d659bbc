"""The sequence model as it is served: a causal transformer over a history's item vectors.

W.-C. Kang and J. McAuley, Self-attentive sequential recommendation, ICDM 2018; pre-norm, with a learned bias by
distance instead of position embeddings (C. Raffel et al., JMLR 21, 2020), so that a window may start anywhere.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.config import RetrievalSettings
from models.inputs import GAP_BUCKETS
from models.log import KINDS


@dataclass(frozen=True)
class Shape:
    """The sizes of the tower."""

    length: int
    dim: int
    heads: int
    blocks: int
    dropout: float
    input_scale: float

    @classmethod
    def of(cls, settings: RetrievalSettings) -> "Shape":
        """Take the sizes from the settings."""
        return cls(
            settings.length, settings.dim, settings.heads, settings.blocks, settings.dropout, settings.input_scale
        )


class HistoryInputs(nn.Module):
    """Adds to each item vector what kind of interaction it was and how long after it the next one came."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._scale = shape.input_scale
        self.kinds = nn.Embedding(len(KINDS), shape.dim)
        self.gaps = nn.Embedding(GAP_BUCKETS, shape.dim)
        nn.init.normal_(self.kinds.weight, std=0.02)
        nn.init.normal_(self.gaps.weight, std=0.02)

    def forward(self, items: Tensor, kinds: Tensor, gaps: Tensor) -> Tensor:
        """Return float [batch, length, dim] from item vectors of that shape and int64 [batch, length] codes."""
        added: Tensor = items * self._scale + self.kinds(kinds) + self.gaps(gaps)
        return added


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, both pre-norm and residual."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._heads = shape.heads
        self._dropout = shape.dropout
        self.attention_norm = nn.LayerNorm(shape.dim)
        self.projections = nn.Linear(shape.dim, 3 * shape.dim)
        self.attention_out = nn.Linear(shape.dim, shape.dim)
        self.distance_bias = nn.Parameter(torch.zeros(shape.heads, shape.length))
        self.feed_norm = nn.LayerNorm(shape.dim)
        self.feed_in = nn.Linear(shape.dim, 2 * shape.dim)
        self.feed_out = nn.Linear(2 * shape.dim, shape.dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return float [batch, length, dim], each position from itself and those before it."""
        return self._fed(x + self._dropped(self._attend(self.attention_norm(x))))

    def at(self, x: Tensor, place: Tensor) -> Tensor:
        """Return float [batch, dim]: what `forward` gives at one `place`, int64 [batch], without the others."""
        batch, length, dim = x.shape
        width, each = dim // self._heads, torch.arange(batch, device=x.device)
        parts = self.projections(self.attention_norm(x)).reshape(batch, length, 3, self._heads, width)
        query, key, value = parts[each, place, 0], parts[:, :, 1], parts[:, :, 2]
        distance = place[:, None] - torch.arange(length, device=x.device)
        bias = self.distance_bias.T[distance.clamp(min=0)].masked_fill((distance < 0)[:, :, None], float("-inf"))
        weights = torch.softmax((query[:, None] * key).sum(dim=-1) / width**0.5 + bias, dim=1)
        mixed = (weights[..., None] * value).sum(dim=1).reshape(batch, dim)
        return self._fed(x[each, place] + self.attention_out(mixed))

    def _attend(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        width = dim // self._heads
        parts = self.projections(x).reshape(batch, length, 3, self._heads, width).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        position = torch.arange(length, device=x.device)
        distance = position[:, None] - position[None, :]
        bias = self.distance_bias[:, distance.clamp(min=0)].masked_fill(distance < 0, float("-inf"))
        weights = torch.softmax(query @ key.transpose(-1, -2) / width**0.5 + bias, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, length, dim)
        out: Tensor = self.attention_out(mixed)
        return out

    def _fed(self, x: Tensor) -> Tensor:
        fed: Tensor = self.feed_out(functional.gelu(self.feed_in(self.feed_norm(x))))
        return x + self._dropped(fed)

    def _dropped(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self._dropout, self.training)


class UserTower(nn.Module):
    """Turns a history's inputs into a user vector; its last dimension is 1 and meets the items' bias.

    Histories are padded at the end: a causal position never sees what follows it, so padding changes nothing.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._dropout = shape.dropout
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.blocks))
        self.norm = nn.LayerNorm(shape.dim)
        self.out = nn.Linear(shape.dim, shape.dim - 1)

    def forward(self, history: Tensor, last: Tensor) -> Tensor:
        """Return float [batch, dim] for inputs float [batch, length, dim] whose last real place is int64 `last`."""
        x = history
        for block in self.blocks[:-1]:
            x = block(x)
        out = self.out(self.norm(cast("Block", self.blocks[-1]).at(x, last)))
        return torch.cat((out, torch.ones_like(out[:, :1])), dim=-1)

    def at_every_place(self, history: Tensor) -> Tensor:
        """Return float [batch, length, dim]: the user vector after each place."""
        x = functional.dropout(history, self._dropout, self.training)
        for block in self.blocks:
            x = block(x)
        out = self.out(self.norm(x))
        return torch.cat((out, torch.ones_like(out[..., :1])), dim=-1)


class RetrievalModel(nn.Module):
    """All of the sequence model but the item embeddings, which are sharded in training and a table in serving."""

    def __init__(self, shape: Shape, content_width: int) -> None:
        super().__init__()
        self.content = nn.Linear(content_width, shape.dim, bias=False)
        nn.init.normal_(self.content.weight, std=0.02)
        self.inputs = HistoryInputs(shape)
        self.tower = UserTower(shape)

    def item_vectors(self, embeddings: Tensor, content: Tensor) -> Tensor:
        """Return float [n, dim] from embeddings float [n, dim] and content vectors float [n, width]."""
        vectors: Tensor = embeddings + self.content(content)
        return vectors
