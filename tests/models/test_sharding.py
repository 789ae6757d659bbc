"""Two processes train what one trains, however the tables are laid out: the same losses and the same weights."""

from pathlib import Path

import layouts
import numpy as np
import pytest
import saved
import torch
from processes import in_two
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

from models.config import LayoutSettings
from models.export import Fitted
from models.layout import NoLayout, plan
from models.quiet import upstream_notices_muted
from models.sharding import limited_threads, process_group

# Sums in another order differ in the last digits. Adam divides a gradient by its size, so that where it is next to
# nothing, the digits may decide on a step; and these parts have no gradient but such digits, since a softmax does not
# see what is added to all of its logits.
LOSS, TABLE, DENSE = 1e-4, 1e-4, 2e-3
UNSEEN = ("projections.bias", "out.bias")
CHOICE_FIRST = "heads.bias"  # whose first place is added to all logits of the choice


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found, a file for each training and process."""
    folder = tmp_path_factory.mktemp("together")
    in_two(layouts.in_two, folder)
    return folder


def found(folder: Path, name: str) -> layouts.Found:
    """What both processes found, which must be the same."""
    first, second = (dict(np.load(folder / f"{name} {rank}.npz")) for rank in range(2))
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert np.array_equal(value, second[key]), key
    return first


def alone(model: str, kind: str) -> layouts.Found:
    with process_group(), limited_threads(1):
        return layouts.train(model, kind)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", layouts.KINDS)
@pytest.mark.parametrize("model", layouts.MODELS)
def test_two_processes_end_with_the_weights_of_one(model: str, kind: str, together: Path) -> None:
    one, two = alone(model, kind), found(together, f"{model} {kind}")
    assert one["kinds"].tolist() == two["kinds"].tolist() == [kind]
    tables = sum("embedding" in name for name in one)
    assert two["ranks"].tolist() == ([0] if (kind, tables) == ("table_wise", 1) else [0, 1])
    np.testing.assert_allclose(two["losses"], one["losses"], atol=LOSS)
    for name, value in one.items():
        if name.startswith("weight ") and not name.endswith(UNSEEN):
            atol = TABLE if "embedding" in name else DENSE
            seen = slice(1, None) if name.endswith(CHOICE_FIRST) else slice(None)
            np.testing.assert_allclose(two[name][seen], value[seen], atol=atol, err_msg=name)
    assert max(np.abs(value).max() for name, value in one.items() if "item.weight" in name) > 0.05


@pytest.mark.timeout(600)
def test_two_processes_fit_all_models_as_one_does(fitted: Fitted, together: Path) -> None:
    two = found(together, "fit")
    losses = [fitted.metrics[name] for name in sorted(fitted.metrics) if "loss" in name]
    np.testing.assert_allclose(two["losses"], losses, atol=LOSS)
    np.testing.assert_allclose(two["table"], fitted.retrieval.table.numpy(), atol=TABLE)
    np.testing.assert_allclose(two["ranker"], fitted.ranker.items.numpy(), atol=TABLE)


def test_all_processes_go_by_what_the_first_one_says(together: Path) -> None:
    assert list(found(together, "fit")["told"]) == [1, 5, 2**62]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", layouts.MODELS)
def test_batches_that_overlap_as_on_a_gpu_change_nothing(model: str, together: Path) -> None:
    with layouts.overlapped() as pipelined:
        one = alone(model, "row_wise")
    two, plain = found(together, f"{model} overlapped"), {1: alone(model, "row_wise")}
    plain[2] = found(together, f"{model} row_wise")
    modules = {"sequence": 1, "ranker": 2}[model]
    assert pipelined == two.pop("pipelined").tolist() == [modules]
    for world, overlapped in ((1, one), (2, two)):
        for name, value in plain[world].items():
            assert np.array_equal(overlapped[name], value), (world, name)


def test_tables_that_every_process_has_whole_are_not_pipelined() -> None:
    settings = saved.SETTINGS.model_copy(update={"embedding_optimizer": "adam", "embedding_learning_rate": 1e-3})
    with process_group(), limited_threads(1):
        plain = saved.run(saved.trainer(settings), None)
        with layouts.overlapped() as pipelined:
            assert saved.run(saved.trainer(settings), None) == plain
    assert not pipelined


def test_tables_that_fit_nowhere_are_refused() -> None:
    config = EmbeddingBagConfig(name="t", embedding_dim=16, num_embeddings=10**12, feature_names=["t"])
    bags = EmbeddingBagCollection(tables=[config], device=torch.device("meta"))
    with (
        process_group(),
        upstream_notices_muted(),
        pytest.raises(NoLayout, match="no row_wise layout of the tables was found"),
    ):
        plan(bags, bags, "cpu", LayoutSettings(sharding="row_wise"))
