"""The chunked loss against the plain one of autograd."""

import pytest
import torch

from models.softmax import Choices, Seen, softmax_loss


@pytest.mark.parametrize(("places", "items", "choices"), [(1, 1, 1), (7, 5, 20), (1_024, 3, 900), (2_500, 17, 4_000)])
def test_loss_and_gradients_are_those_of_a_plain_softmax(places: int, items: int, choices: int) -> None:
    torch.manual_seed(places)
    users = torch.randn(places, 8, dtype=torch.float64, requires_grad=True)
    catalogue = torch.randn(items, 8, dtype=torch.float64, requires_grad=True)
    corrections = torch.randn(items, dtype=torch.float64)
    at = torch.randint(places, (choices,)).sort().values
    targets, weights = torch.randint(items, (choices,)), torch.rand(choices, dtype=torch.float64)

    loss = softmax_loss(users, catalogue, corrections, Choices(at, targets, weights))
    (3 * loss).backward()
    found = loss.detach(), users.grad, catalogue.grad

    users.grad, catalogue.grad = None, None
    logged = torch.log_softmax(users @ catalogue.T - corrections, dim=-1)[at, targets]
    plain = -(logged * weights).sum()
    (3 * plain).backward()
    for ours, theirs in zip(found, (plain.detach(), users.grad, catalogue.grad), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("windows", "length", "items"), [(1, 3, 2), (30, 50, 17)])
def test_what_was_seen_is_no_choice_but_for_what_was_chosen(windows: int, length: int, items: int) -> None:
    torch.manual_seed(windows)
    places = windows * length
    users = torch.randn(places, 8, dtype=torch.float64, requires_grad=True)
    catalogue = torch.randn(items, 8, dtype=torch.float64, requires_grad=True)
    corrections = torch.randn(items, dtype=torch.float64)
    since = torch.randint(length + 1, (windows, items), dtype=torch.int16)
    at = torch.cat((torch.arange(places), torch.randint(places, (places,)))).sort().values
    targets, weights = torch.randint(items, (2 * places,)), torch.rand(2 * places, dtype=torch.float64)
    window, step = torch.arange(places) // length, torch.arange(places) % length

    choices = Choices(at, targets, weights, Seen(since, window, step))
    softmax_loss(users, catalogue, corrections, choices).backward()
    found = users.grad, catalogue.grad

    users.grad, catalogue.grad = None, None
    open_items = torch.tensor(
        [[bool(since[w, item] > s) for item in range(items)] for w in range(windows) for s in range(length)]
    )
    open_items[at, targets] = True
    logits = (users @ catalogue.T - corrections).masked_fill(~open_items, float("-inf"))
    plain = -(torch.log_softmax(logits, dim=-1)[at, targets] * weights).sum()
    plain.backward()
    for ours, theirs in zip(found, (users.grad, catalogue.grad), strict=True):
        torch.testing.assert_close(ours, theirs)
