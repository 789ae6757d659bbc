"""A trainer's state is taken, put and forgotten row by row, whatever the layout of the table."""

from collections.abc import Iterator

import numpy as np
import pytest
import saved
import small
import torch

from models.config import LayoutSettings
from models.retrieval_training import TABLE_WEIGHT, RetrievalTrainer
from models.sharding import limited_threads, process_group

WIDE = saved.SETTINGS.model_copy(update={"dim": 256, "dropout": 0.0})  # wide enough to be cut by columns


@pytest.fixture(params=["table_wise", "row_wise", "column_wise"])
def trainer(request: pytest.FixtureRequest) -> Iterator[RetrievalTrainer]:
    """A trainer that has trained, with its table laid out in each way."""
    layout_settings = LayoutSettings(sharding=request.param, columns=WIDE.dim // 2)
    with process_group(), limited_threads(1):
        trained = saved.trainer(WIDE.model_copy(update={"layout": layout_settings}))
        (layout,) = trained._sharded.plan.plan["embeddings"].values()
        assert layout.sharding_type == request.param
        assert len(layout.sharding_spec.shards) == (2 if request.param == "column_wise" else 1)
        trained.train(small.data().log, 1, 1.0, lambda _share: None)
        yield trained


def test_a_state_that_was_put_is_the_state_that_was_taken(trainer: RetrievalTrainer) -> None:
    taken = trainer.state()
    assert taken.sums.shape == (small.ITEMS + 1,)
    assert (taken.sums > 0).all()  # every item was trained
    other = saved.trainer(WIDE)
    assert not other.state().sums.any()
    other.go_on_from(taken)
    found = other.state()
    assert torch.equal(found.sums, taken.sums)
    assert found.weights.keys() == taken.weights.keys()
    for name, value in taken.weights.items():
        assert torch.equal(found.weights[name], value), name


def test_a_forgotten_rows_weights_and_optimiser_state_are_zero_and_no_other_rows(trainer: RetrievalTrainer) -> None:
    def everything() -> list[torch.Tensor]:
        """The parts of the table, which all have all rows, its running average, and the optimiser's sums."""
        parts = trainer._sharded.state_dict()["module"][TABLE_WEIGHT].local_shards()
        state = trainer.state()
        return [*(part.tensor.detach().clone() for part in parts), state.weights[TABLE_WEIGHT], state.sums]

    before = everything()
    gone = np.array([3, small.ITEMS])
    trainer.forget(gone)
    others = np.setdiff1d(np.arange(small.ITEMS + 1), gone)
    for found, was in zip(everything(), before, strict=True):
        assert len(was) == small.ITEMS + 1
        assert was[gone].any()
        assert not found[gone].any()
        assert torch.equal(found[others], was[others])


def test_a_table_that_adam_updates_is_put_and_forgotten_too() -> None:
    adam = saved.SETTINGS.model_copy(update={"embedding_optimizer": "adam", "average": 0.5})
    gone = np.array([3, small.ITEMS])
    others = np.setdiff1d(np.arange(small.ITEMS + 1), gone)
    with process_group(), limited_threads(1):
        trained, other = saved.trainer(adam), saved.trainer(adam)
        trained.train(small.data().log, 1, 1.0, lambda _share: None)
        other.go_on_from(trained.state())
        live = trained._sharded.state_dict()
        moments = live["optimizer"][f"dense.{TABLE_WEIGHT}"]
        parts = [live["module"][TABLE_WEIGHT], live["average"][TABLE_WEIGHT], moments["exp_avg"], moments["exp_avg_sq"]]
        before = [part.detach().clone() for part in parts]
        trained.forget(gone)
        for part, was in zip(parts, before, strict=True):
            assert was[gone].any()
            assert not part[gone].any()
            assert torch.equal(part[others], was[others])
        assert torch.equal(other.state().weights[TABLE_WEIGHT], before[1])
