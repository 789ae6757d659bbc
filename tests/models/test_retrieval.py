"""The user tower: training asks it for every place of a history, serving for the last one alone."""

import pytest
import torch

from models.retrieval import Shape, UserTower

SEED = 5


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_last_place_alone_gives_what_every_place_gives(blocks: int) -> None:
    print("seed", SEED)  # noqa: T201
    torch.manual_seed(SEED)
    tower = UserTower(Shape(length=12, dim=8, heads=2, blocks=blocks, dropout=0.3, input_scale=1.0)).eval()
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    history, last = torch.randn(4, 12, 8), torch.tensor([0, 3, 10, 11])
    alone, every = tower(history, last), tower.at_every_place(history)
    assert every.std() > 0.1
    torch.testing.assert_close(alone, every[torch.arange(4), last], atol=1e-5, rtol=1e-5)
