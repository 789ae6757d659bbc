"""Target attention against its definition, and what it must never depend on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.attention import TargetAttention

SEED, VECTORS, PLACES, WIDTH = 3, 6, 5, 4


def attention() -> TargetAttention:
    """One with random weights everywhere, those that start at zero too."""
    torch.manual_seed(SEED)
    module = TargetAttention(VECTORS, PLACES, WIDTH)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def inputs(lengths: list[int], candidates: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(SEED)
    items = torch.randn(len(lengths), candidates, VECTORS)
    history = torch.randn(len(lengths), PLACES, VECTORS)
    return items, history, torch.arange(PLACES) < torch.tensor(lengths)[:, None]


def by_hand(module: TargetAttention, item: np.ndarray, history: np.ndarray) -> np.ndarray:
    """One candidate over a history without padding, place by place."""
    weights = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    query = weights["query.weight"] @ item
    powers, values = [math.exp(weights["place"][0])], [np.zeros(WIDTH)]
    for place, vector in enumerate(history, start=1):
        relevance = query @ (weights["key.weight"] @ vector) / math.sqrt(WIDTH) + weights["place"][place]
        powers.append(math.exp(relevance))
        values.append(weights["value.weight"] @ vector)
    mixed = sum(power * value for power, value in zip(powers, values, strict=True)) / sum(powers)
    return weights["out.weight"] @ np.concatenate((mixed, mixed * query)) + weights["out.bias"]


@pytest.mark.parametrize("length", range(PLACES + 1))
def test_each_candidate_gets_the_histories_mix_by_its_own_relevance(length: int) -> None:
    module, (items, history, present) = attention(), inputs([length, PLACES])
    mixed = module(items, history, present).detach().numpy()
    for number in range(items.shape[1]):
        expected = by_hand(module, items[0, number].numpy(), history[0, :length].numpy())
        np.testing.assert_allclose(mixed[0, number], expected, atol=1e-5)


def test_untrained_it_adds_nothing() -> None:
    assert not TargetAttention(VECTORS, PLACES, WIDTH)(*inputs([0, 2, PLACES])).any()


@given(lengths=st.lists(st.integers(0, PLACES), min_size=1, max_size=4), padding=st.floats(-1e6, 1e6))
def test_neither_padding_nor_batch_mates_nor_other_candidates_matter(lengths: list[int], padding: float) -> None:
    module, (items, history, present) = attention(), inputs(lengths)
    together = module(items, torch.where(present[..., None], history, padding), present).detach()
    assert torch.isfinite(together).all()
    alone = module(items[-1:, :1], history[-1:], present[-1:]).detach()
    np.testing.assert_allclose(together[-1, 0], alone[0, 0], atol=1e-5)


def test_in_training_whole_histories_are_hidden_and_in_serving_nothing_is() -> None:
    module = TargetAttention(VECTORS, PLACES, WIDTH, dropout=0.5)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    given = inputs([PLACES] * 2_000, candidates=1)
    torch.manual_seed(SEED)
    mixed = module.train()(*given).detach()
    hidden = (mixed == module.out.bias.detach()).all(dim=-1).float().mean()
    # Half of the histories, and of the others those all of whose places are hidden.
    assert float(hidden) == pytest.approx(0.5 + 0.5 * 0.5**PLACES, abs=0.04)
    module.eval()
    assert torch.equal(module(*given), module(*given))
