"""The loss of a softmax over a whole catalogue, computed together with its gradients in chunks that stay in the cache.

Autograd would keep every logit, 40 million of them for 64 windows of 200 places and 3,400 items, and pass over them
several times. E. Wijmans et al., Cut your losses in large-vocabulary language models, ICLR 2025, do so on GPUs.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_PLACES = 1_024  # logits of so many places at once


@dataclass(frozen=True)
class Seen:
    """What was no choice any more: of a place that is step s of window w, each item whose `since`[w, item] <= s.

    `since` is int16[windows, items]; `windows` and `steps`, int64[places], say where in them each place is.
    """

    since: Tensor
    windows: Tensor
    steps: Tensor

    def at(self, part: slice) -> Tensor:
        """Return bool[places of the part, items]."""
        return self.since[self.windows[part]] <= self.steps[part, None].to(self.since.dtype)  # or it widens the larger


@dataclass(frozen=True)
class Choices:
    """What was chosen: at `places` int64[n], ascending, the items `targets` int64[n], weighing `weights` float[n].

    With `seen`, a place chooses among what it had not met, and what it chose; every place must choose something then.
    """

    places: Tensor
    targets: Tensor
    weights: Tensor
    seen: Seen | None = None


def softmax_loss(users: Tensor, catalogue: Tensor, corrections: Tensor, choices: Choices) -> Tensor:
    """Return the weighted sum of -log softmax(users @ catalogue.T - corrections) at the choices, a scalar.

    `users` float[places, dim], `catalogue` float[items, dim], `corrections` float[items], which gets no gradient.
    """
    loss: Tensor = _SoftmaxLoss.apply(users, catalogue, corrections, choices)
    return loss


class _SoftmaxLoss(torch.autograd.Function):
    """Both gradients are known after the forward pass; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, users: Tensor, catalogue: Tensor, corrections: Tensor, choices: Choices) -> Tensor:
        to_users, to_catalogue = torch.empty_like(users), torch.zeros_like(catalogue)
        mass = users.new_zeros(len(users)).index_add_(0, choices.places, choices.weights)
        starts = torch.arange(0, len(users) + _PLACES, _PLACES, device=users.device)
        bounds = torch.searchsorted(choices.places, starts).tolist()
        loss = users.new_zeros(())
        for number, start in enumerate(range(0, len(users), _PLACES)):
            part, own = slice(start, start + _PLACES), slice(bounds[number], bounds[number + 1])
            chosen = (choices.places[own] - start, choices.targets[own])
            logits = users[part] @ catalogue.T - corrections
            picked = logits[chosen]
            if choices.seen:
                logits.masked_fill_(choices.seen.at(part), float("-inf"))[chosen] = picked
            top = logits.amax(dim=1, keepdim=True)
            shares = logits.sub_(top).exp_()
            sums = shares.sum(dim=1, keepdim=True)
            loss += (choices.weights[own] * ((top + sums.log())[chosen[0], 0] - picked)).sum()
            gradient = shares.mul_(mass[part, None] / sums).index_put_(chosen, -choices.weights[own], accumulate=True)
            torch.matmul(gradient, catalogue, out=to_users[part])
            to_catalogue.addmm_(gradient.T, users[part])
        ctx.save_for_backward(to_users, to_catalogue)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_users, to_catalogue = ctx.saved_tensors
        return gradients[0] * to_users, gradients[0] * to_catalogue, None, None
