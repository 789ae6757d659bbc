from pathlib import Path

import numpy as np
import pytest
import small
import torch

from models.artifact import write_artifact
from models.config import ArtifactsMissing, ModelSettings, RetrievalSettings, artifacts_url
from models.dataset import TrainingData
from models.export import Fitted, artifact_parts
from models.fitting import Timer, fit
from models.progress import Step
from models.sharding import limited_threads
from models.spec import Lineage

LINEAGE = Lineage({}, small.SEED, "test")


def version(fitted: Fitted, data: TrainingData, folder: Path) -> str:
    return write_artifact(folder, artifact_parts(fitted, data))


def quiet() -> Timer:
    return Timer(lambda _name, _share: None)


def test_training_again_gives_the_same_version(data: TrainingData, fitted: Fitted, tmp_path: Path) -> None:
    again = fit(data, small.SETTINGS, LINEAGE, quiet())
    assert version(again, data, tmp_path / "again") == version(fitted, data, tmp_path / "first")


def test_another_seed_gives_another_version(data: TrainingData, fitted: Fitted, tmp_path: Path) -> None:
    other = fit(data, small.SETTINGS.model_copy(update={"seed": small.SEED + 1}), LINEAGE, quiet())
    assert version(other, data, tmp_path / "other") != version(fitted, data, tmp_path / "first")


def test_training_learns(fitted: Fitted) -> None:
    for model in ("retrieval", "ranking"):
        assert fitted.metrics[f"{model}_loss_last"] < 0.9 * fitted.metrics[f"{model}_loss_first"], model


def test_a_sampled_softmax_learns_too(data: TrainingData) -> None:
    retrieval = small.SETTINGS.retrieval.model_copy(update={"full_softmax_items": 1, "sampled_negatives": 10})
    sampled = fit(data, small.SETTINGS.model_copy(update={"retrieval": retrieval}), LINEAGE, quiet())
    assert sampled.metrics["retrieval_loss_last"] < 0.9 * sampled.metrics["retrieval_loss_first"]


def test_every_part_is_timed_and_reports_until_it_is_done(data: TrainingData) -> None:
    heard: dict[str, list[Step]] = {}
    timer = Timer(lambda name, step: heard.setdefault(name, []).append(step))
    fit(data, small.SETTINGS, LINEAGE, timer)
    assert {"retrieval", "ranking features", "ranking", "retrieval refit", "co-visits"} == timer.seconds.keys()
    for name in ("retrieval", "ranking", "retrieval refit"):
        assert [step.number for step in heard[name]] == list(range(1, heard[name][0].steps + 1)), name
        assert heard[name][-1].share == 1.0


def test_an_artifact_is_not_written_over_anything(data: TrainingData, fitted: Fitted, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        write_artifact(tmp_path, artifact_parts(fitted, data))


def test_an_artifacts_weights_are_all_finite(data: TrainingData, fitted: Fitted) -> None:
    for name, array in artifact_parts(fitted, data).arrays.items():
        assert np.isfinite(array).all(), name


def test_threads_are_limited_for_training_alone() -> None:
    before = torch.get_num_threads()
    with limited_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_registry_must_have_a_place() -> None:
    with pytest.raises(ArtifactsMissing, match="FLYWHEEL_MODEL__ARTIFACTS"):
        artifacts_url(ModelSettings())
    assert artifacts_url(ModelSettings().under(Path("/srv/flywheel"))) == "/srv/flywheel/models"


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="3 does not divide 32"):
        RetrievalSettings(dim=32, heads=3)
