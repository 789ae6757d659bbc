"""Target attention: what of a history matters for one candidate, asked anew for each candidate.

G. Zhou et al., Deep interest network for click-through rate prediction, KDD 2018. Relevance is a scaled product of two
projections and a learnt weight of the place rather than a small network on every pair, so that memory and time go with
[candidates, places] alone.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class TargetAttention(nn.Module):
    """Mixes the history's items by their relevance for a candidate. Untrained it gives zeros.

    Beside the places there is always one that holds nothing: of no relevance and of value zero. A candidate may turn to
    it, and for an empty history there is nothing else, so a softmax never runs over no place at all.

    In training a share `dropout` of the histories, of the places of the others and of the vectors' numbers is hidden:
    a few thousand labels are soon learnt by heart.
    """

    def __init__(self, vectors: int, places: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self._scale = width**-0.5
        self._dropout = dropout
        self.query = nn.Linear(vectors, width, bias=False)
        self.key = nn.Linear(vectors, width, bias=False)
        self.value = nn.Linear(vectors, width, bias=False)
        self.place = nn.Parameter(torch.zeros(1 + places))
        self.out = nn.Linear(2 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, items: Tensor, history: Tensor, present: Tensor) -> Tensor:
        """Return float [queries, candidates, width].

        `items` is float [queries, candidates, vectors], `history` float [queries, places, vectors] newest first; places
        where bool `present` [queries, places] is False are padding.
        """
        if self.training:
            items, history = (functional.dropout(vectors, self._dropout) for vectors in (items, history))
            present = present & self._kept(present[:, :1]) & self._kept(present)
        query = self.query(items)
        relevance = query @ _after_nothing(self.key(history)).transpose(1, 2) * self._scale + self.place
        open_places = torch.cat((torch.ones_like(present[:, :1]), present), dim=1)
        weights = torch.softmax(relevance.masked_fill(~open_places[:, None], float("-inf")), dim=-1)
        mixed = weights @ _after_nothing(self.value(history))
        out: Tensor = self.out(torch.cat((mixed, mixed * query), dim=-1))
        return out

    def _kept(self, present: Tensor) -> Tensor:
        return torch.rand(present.shape, device=present.device) >= self._dropout


def _after_nothing(places: Tensor) -> Tensor:
    return torch.cat((torch.zeros_like(places[:, :1]), places), dim=1)
