"""Training that was interrupted ends as if it had not been."""

import os
import signal
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import saved
import small
import torch
from processes import in_two
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from waiting import wait_until

from features.config import LakeSettings
from models.checkpoints import Checkpoints, OtherRun
from models.progress import Step
from models.sharding import limited_threads, process_group
from models.training import train
from streaming.namespace import parse_namespace


@pytest.fixture(scope="module")
def whole() -> saved.Ended:
    """Losses and table of a run that nothing interrupts and nothing saves."""
    return saved.train(None)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def same(run: saved.Ended, other: saved.Ended) -> bool:
    return run[0] == other[0] and np.array_equal(run[1], other[1])


def test_saving_changes_nothing_and_only_the_last_ones_are_kept(whole: saved.Ended, tmp_path: Path) -> None:
    assert same(saved.train(tmp_path, kept=2), whole)
    last = len(whole[0])
    assert names(tmp_path) == {f"step-{last}", f"step-{(last - 1) // saved.EVERY * saved.EVERY}"}


@pytest.fixture(scope="module")
def whole_ranker() -> saved.Ended:
    return saved.train_ranker_too(None)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("model", ["sequence", "ranker"])
def test_training_killed_in_mid_epoch_goes_on_as_if_nothing_had_happened(
    model: str, whole: saved.Ended, whole_ranker: saved.Ended, tmp_path: Path
) -> None:
    expected = {"sequence": whole, "ranker": whole_ranker}[model]
    folder, sign = tmp_path / "saved", tmp_path / "sign"
    steps_of_epoch = len(expected[0]) // saved.EPOCHS
    step = 3 * steps_of_epoch // 2 // saved.EVERY * saved.EVERY + 1
    arguments = (model, step, str(folder), str(sign))
    child = get_context("spawn").Process(target=saved.train_until, args=arguments, daemon=True)
    child.start()
    wait_until(lambda: sign.exists() or not child.is_alive(), 240, lambda: "the child did not get that far")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(60)
    assert child.exitcode == -signal.SIGKILL
    assert steps_of_epoch + 1 < step < 2 * steps_of_epoch - 1
    assert f"step-{step - 1}" in names(folder)
    (folder / f"step-{step}.partial").mkdir()  # as if it had been saving

    assert same(saved.train(folder) if model == "sequence" else saved.train_ranker_too(folder), expected)
    assert not [name for name in names(folder) if name.endswith(".partial")]


def flip(checkpoint: Path) -> None:
    file = next(checkpoint.glob("*.distcp"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def truncate(checkpoint: Path) -> None:
    os.truncate(checkpoint / "manifest.json", 10)


def lose(checkpoint: Path) -> None:
    (checkpoint / ".metadata").unlink()


@pytest.mark.parametrize("damage", [flip, truncate, lose])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(
    damage: Callable[[Path], None],
    whole: saved.Ended,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(saved.Stop):
        saved.train(tmp_path, stop_after=6)
    damage(tmp_path / "step-6")
    assert same(saved.train(tmp_path), whole)
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "models.checkpoints"]
    assert f"{tmp_path / 'step-6'} is damaged and skipped" in warning


def test_without_any_whole_checkpoint_training_begins_anew(whole: saved.Ended, tmp_path: Path) -> None:
    with pytest.raises(saved.Stop):
        saved.train(tmp_path, stop_after=3)
    flip(tmp_path / "step-2")
    assert same(saved.train(tmp_path, kept=1), whole)


def test_a_checkpoint_of_other_settings_or_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(saved.Stop):
        saved.train(tmp_path, stop_after=3)
    slower = saved.SETTINGS.model_copy(update={"learning_rate": 1e-4})
    with pytest.raises(OtherRun, match=r"step-2 is of another run: its settings or data differ; go back"):
        saved.train(tmp_path, settings=slower)
    with process_group(), limited_threads(1), pytest.raises(OtherRun, match=r"item\.weight has shape \[41, 8\] there"):
        saved.run(saved.trainer(items=small.ITEMS + 1), Checkpoints(tmp_path, 3, 2))


def tensors(checkpoint: Path, file: Path) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint put together from their shards, by name."""
    dcp_to_torch_save(checkpoint, file)
    return dict(flat(torch.load(file, weights_only=True), ""))


def flat(value: object, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, f"{name}/{key}")
    else:
        yield name, torch.as_tensor(value)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes saved in some layouts, and what one and two went on to from there in all."""
    folder = tmp_path_factory.mktemp("resumed")
    for source in saved.SOURCES:
        for world in ("one", "two"):
            for kind in saved.LAYOUTS:
                (folder / source / f"{world} {kind}").mkdir(parents=True)
    in_two(saved.in_two, folder)
    with limited_threads(1):
        saved.alone(folder)
    return folder


def recut(accumulators: torch.Tensor, source: str, kind: str) -> torch.Tensor:
    """Row-wise Adagrad's sums of a table as another layout has them: one a row, or two where its columns are halved."""
    if "column_wise" not in (source, kind) or source == kind:
        return accumulators
    if kind == "column_wise":
        return torch.cat((accumulators, accumulators))  # each half goes on from the row's sum
    return torch.stack(accumulators.chunk(2)).mean(dim=0)  # the mean square over all columns


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", saved.LAYOUTS)
@pytest.mark.parametrize("source", saved.SOURCES)
def test_what_two_processes_saved_is_restored_in_any_layout_by_one_and_by_two(
    source: str, kind: str, resumed: Path, tmp_path: Path
) -> None:
    before = resumed / source
    expected = tensors(before / "step-10", tmp_path / "source.pt")
    for part in ("momentum1", "exp_avg_sq", "average/embeddings", "module/embeddings"):
        assert any(part in name and value.abs().max() > 0 for name, value in expected.items()), part
    losses = np.load(before / "losses-0.npy")
    for world in ("one", "two"):
        after = before / f"{world} {kind}"
        found = tensors(after / "again" / "step-10", tmp_path / f"{world}.pt")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert torch.equal(found[key], recut(value, source, kind) if "momentum1" in key else value), key
        (sums,) = [recut(value, source, "row_wise").numpy() for key, value in expected.items() if "momentum1" in key]
        assert np.array_equal(np.load(after / "sums-0.npy"), sums)
        for learnt in np.load(after / "forgotten-0.npz").values():
            assert set(np.flatnonzero(~learnt.reshape(len(learnt), -1).any(axis=1))) == set(saved.GONE)
        gone_on = np.load(after / "losses-0.npy")
        assert gone_on[:10].tolist() == losses[:10].tolist()
        # In halves each has its own sum of gradients, which is other arithmetic; otherwise only sums' order differs.
        atol = 1e-5 if (source == "column_wise") == (kind == "column_wise") else 0.05
        np.testing.assert_allclose(gone_on, losses, atol=atol)
        if (world, kind) == ("two", source):
            assert gone_on.tolist() == losses.tolist()


def test_the_training_job_goes_on_after_an_interrupt_and_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    table = SimpleNamespace(arrow=None, snapshot_id=1)
    monkeypatch.setattr("models.training.read_table", lambda *_args, **_kwargs: table)
    monkeypatch.setattr("models.training.current_snapshot_id", lambda *_args: table.snapshot_id)
    monkeypatch.setattr("models.training.training_data", lambda _tables: small.data())
    folder = tmp_path / "checkpoints" / "shop"
    other = folder / "data-other"
    other.mkdir(parents=True)

    def version(steps: int, interrupted: bool, heard: set[str]) -> str:
        def progress(name: str, step: Step) -> None:
            heard.add(name)
            if interrupted and name == "retrieval refit" and step.share > 0.5:
                raise saved.Stop

        settings = small.SETTINGS.model_copy(update={"checkpoint_steps": steps}).under(tmp_path)
        return train(settings, LakeSettings(), parse_namespace("shop"), small.NOW, progress).version

    with pytest.raises(saved.Stop):
        version(2, True, set())
    assert f"{other} are of other data and are removed" in caplog.text
    (own,) = folder.glob("data-*")
    assert names(own) == {"first", "ranking", "refit"}
    heard: set[str] = set()
    resumed = version(2, False, heard)
    assert heard.isdisjoint({"retrieval", "ranking"})  # they were done
    assert "retrieval refit" in heard
    assert not names(folder)
    assert version(0, False, set()) == resumed
