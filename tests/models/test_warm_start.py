"""A retraining starts from the champion's first stage where it fits."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import small
import torch

from features.config import LakeSettings
from models.artifact import Artifact, CorruptArtifact
from models.beginning import ChampionUnfit
from models.config import ModelSettings
from models.dataset import TrainingData
from models.embedding_vocabulary import EmbeddingVocabulary
from models.export import Fitted
from models.fitting import Timer, fit
from models.progress import Step
from models.registry import Champion, NoChampion, Registry
from models.retrieval_training import TABLE_WEIGHT
from models.spec import ContentSpec, Lineage, Number
from models.start import START, START_WEIGHTS, Parent, read_parent
from models.trainer_state import TrainerState
from models.training import TrainedModel, train
from models.warm_start import carried_content, carried_state, misfit
from streaming.ids import ItemId
from streaming.namespace import parse_namespace

SHOP = parse_namespace("shop")
CONTENT = "model.content.weight"


@pytest.fixture
def parent(artifact: Path) -> Parent:
    return read_parent(Artifact.open(artifact))


def fresh(parent: Parent, rows: int, columns: int) -> TrainerState:
    """A state that nothing was learnt of: every weight is -1, every sum is 0."""
    weights = {name: torch.full_like(value, -1.0) for name, value in parent.start.state.weights.items()}
    weights[TABLE_WEIGHT] = torch.full((rows, small.SETTINGS.retrieval.dim), -1.0)
    weights[CONTENT] = torch.full((small.SETTINGS.retrieval.dim, columns), -1.0)
    return TrainerState(weights, torch.zeros(rows))


def test_a_start_is_read_as_it_was_written(fitted: Fitted, parent: Parent) -> None:
    assert parent.spec == fitted.spec
    assert parent.start.vocabulary == fitted.start.vocabulary
    assert parent.start.until == fitted.start.until
    assert torch.equal(parent.start.state.sums, fitted.start.state.sums)
    for name, value in fitted.start.state.weights.items():
        assert torch.equal(parent.start.state.weights[name], value), name


def test_a_start_has_seen_no_answer_of_the_rankers_examples(data: TrainingData, fitted: Fitted) -> None:
    assert fitted.start.until == data.groups.times.min()
    table = fitted.start.state.weights[TABLE_WEIGHT]
    assert not torch.equal(table, fitted.retrieval.table)  # which the refit went on with


def test_what_stays_is_taken_over_bit_by_bit_and_the_rest_is_new(parent: Parent) -> None:
    known = parent.start.vocabulary.item_ids
    gone, newcomer = known[3], ItemId("newcomer")
    later = EmbeddingVocabulary((*known[:3], newcomer, *known[4:7], None, *known[8:], gone), 1)
    spec = parent.spec.content
    content = ContentSpec(categories=("c0", "new", *spec.categories[1:]), numbers=spec.numbers)
    state = carried_state(parent, fresh(parent, later.size, content.width), later, content)

    old, table = parent.start.state, state.weights[TABLE_WEIGHT]
    same = np.setdiff1d(np.arange(small.ITEMS), [3, 7])
    assert torch.equal(table[same], old.weights[TABLE_WEIGHT][same])
    assert torch.equal(state.sums[same], old.sums[same])
    assert (old.sums[same] > 0).all()
    assert torch.equal(table[-1], old.weights[TABLE_WEIGHT][-1])  # the shared row, one place further on
    assert state.sums[-1] == old.sums[-1] > 0
    for row in (3, 7, small.ITEMS):  # reused, free, and the one of the item that came back
        assert (table[row] == -1.0).all()
        assert state.sums[row] == 0.0
    assert torch.equal(state.weights[CONTENT][:, 0], old.weights[CONTENT][:, 0])
    assert (state.weights[CONTENT][:, 1] == -1.0).all()
    assert torch.equal(state.weights[CONTENT][:, 2:], old.weights[CONTENT][:, 1:])
    for name in old.weights.keys() - {TABLE_WEIGHT, CONTENT}:
        assert torch.equal(state.weights[name], old.weights[name]), name


def test_shared_rows_of_another_number_begin_anew(parent: Parent) -> None:
    later = EmbeddingVocabulary(parent.start.vocabulary.item_ids, 3)
    state = carried_state(parent, fresh(parent, later.size, 5), later, parent.spec.content)
    assert (state.weights[TABLE_WEIGHT][-3:] == -1.0).all()
    assert not state.sums[-3:].any()
    assert torch.equal(state.sums[:-3], parent.start.state.sums[:-1])


def test_numbers_stay_standardised_as_the_weights_know_them() -> None:
    before = ContentSpec(("a",), (Number("year", 1990.0, 10.0),))
    fitted = ContentSpec(("a", "b"), (Number("price", 5.0, 2.0), Number("year", 2000.0, 20.0)))
    expected = ContentSpec(("a", "b"), (Number("price", 5.0, 2.0), Number("year", 1990.0, 10.0)))
    assert carried_content(fitted, before) == expected


def test_training_again_from_a_model_begins_with_a_lower_loss_and_fewer_steps(
    data: TrainingData, fitted: Fitted, parent: Parent
) -> None:
    heard: dict[str, int] = {}

    def progress(name: str, _step: Step) -> None:
        heard[name] = heard.get(name, 0) + 1

    settings = with_retrieval(warm_epochs=1)
    again = fit(data, settings, Lineage({}, small.SEED, "test", "parent"), Timer(progress), parent=parent)
    assert again.metrics["retrieval_loss_first"] < 0.95 * fitted.metrics["retrieval_loss_first"]
    assert again.metrics["retrieval_loss_last"] < fitted.metrics["retrieval_loss_last"]
    assert again.start.vocabulary == fitted.start.vocabulary
    assert heard["retrieval"] < heard["retrieval refit"]  # one pass over a part, one over everything


def with_retrieval(**changes: object) -> ModelSettings:
    return small.SETTINGS.model_copy(update={"retrieval": small.SETTINGS.retrieval.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"dim": 16}, "its retrieval.dim is 8, and this training's is 16"),
        ({"length": 9}, "its retrieval.length is 8, and this training's is 9"),
        (
            {"blocks": 2},
            "its weight model.tower.blocks.1.attention_norm.bias has shape None, and this training's has [8]",
        ),
        (
            {"heads": 4},
            "its weight model.tower.blocks.0.distance_bias has shape [2, 8], and this training's has [4, 8]",
        ),
    ],
)
def test_a_model_of_another_shape_does_not_fit(parent: Parent, changes: dict[str, object], why: str) -> None:
    assert misfit(parent, with_retrieval(**changes).retrieval, parent.start.until) == why


def test_a_model_that_has_seen_the_answers_does_not_fit(parent: Parent) -> None:
    assert misfit(parent, small.SETTINGS.retrieval, parent.start.until) is None
    why = misfit(parent, small.SETTINGS.retrieval, parent.start.until - 1_000)
    assert why is not None
    assert why.startswith("it has seen events up to 20")


@pytest.fixture
def job(tmp_path: Path, data: TrainingData, monkeypatch: pytest.MonkeyPatch) -> Callable[[ModelSettings], TrainedModel]:
    """The training job on the small world, with a registry of its own."""
    table = SimpleNamespace(arrow=None, snapshot_id=1)
    monkeypatch.setattr("models.training.read_table", lambda *_args, **_kwargs: table)
    monkeypatch.setattr("models.training.current_snapshot_id", lambda *_args: table.snapshot_id)
    monkeypatch.setattr("models.training.training_data", lambda _tables: data)
    return lambda settings: train(settings.under(tmp_path), LakeSettings(), SHOP, small.NOW, lambda _name, _share: None)


def registry(home: Path) -> Registry:
    return Registry(str(home / "models"), SHOP)


def promote(home: Path, artifact: Path) -> str:
    version = Artifact.open(artifact).version
    registry(home).add(artifact, version)
    registry(home).promote(Champion(number=1, model_version=version, change="promote", changed_at=0, gate={}))
    return version


def starting(where: str, settings: ModelSettings = small.SETTINGS) -> ModelSettings:
    return settings.model_copy(update={"start_from": where})


def test_the_training_job_starts_from_the_champion_and_says_so(
    job: Callable[[ModelSettings], TrainedModel], tmp_path: Path, artifact: Path
) -> None:
    first = job(small.SETTINGS)
    assert (first.lineage.parent, first.beginning) == (None, "started from scratch: no model was promoted yet")
    parent = promote(tmp_path, artifact)
    second = job(small.SETTINGS)
    assert (second.lineage.parent, second.beginning) == (parent, f"started from the champion {parent}")
    assert second.metrics["retrieval_loss_first"] < 0.95 * first.metrics["retrieval_loss_first"]
    again = job(starting("champion"))
    assert again.version == second.version
    scratch = job(starting("scratch"))
    assert (scratch.version, scratch.beginning) == (first.version, "started from scratch, as the settings ask")
    registry(tmp_path).fetch(second.version, tmp_path / "second")
    assert Artifact.open(tmp_path / "second").spec.lineage.parent == parent


def test_a_champion_that_does_not_fit_is_passed_over_with_a_sentence_or_refused(
    job: Callable[[ModelSettings], TrainedModel], tmp_path: Path, artifact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wider = with_retrieval(dim=16, epochs=1)
    with pytest.raises(NoChampion, match="no model was promoted yet"):
        job(starting("champion"))
    version = promote(tmp_path, artifact)
    why = "its retrieval.dim is 8, and this training's is 16"
    with pytest.raises(ChampionUnfit, match=f"cannot start from the champion {version}: {why}; use scratch"):
        job(starting("champion", wider))
    trained = job(wider)
    assert trained.lineage.parent is None
    assert trained.beginning == f"started from scratch, since the champion {version} does not fit: {why}"
    assert [record.getMessage() for record in caplog.records if record.name == "models.beginning"] == [
        trained.beginning
    ]


def without_start(artifact: Path) -> None:
    (artifact / START).unlink()


def with_other_rows(artifact: Path) -> None:
    note = msgspec.json.decode((artifact / START).read_bytes())
    note["vocabulary"]["shared"] = 2
    (artifact / START).write_bytes(msgspec.json.encode(note))


def with_a_damaged_file(artifact: Path) -> None:
    (artifact / START_WEIGHTS).write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (without_start, "'start.json' cannot be read"),
        (with_other_rows, "a start with 41 rows for a vocabulary of 42"),
        (with_a_damaged_file, "keeps no start that can be read"),
    ],
)
def test_a_start_that_is_missing_or_damaged_is_named(
    artifact: Path, tmp_path: Path, damage: Callable[[Path], None], why: str
) -> None:
    found = Artifact.open(artifact)
    copy = replace(found, directory=Path(shutil.copytree(artifact, tmp_path / "copy")))
    damage(copy.directory)
    with pytest.raises(CorruptArtifact, match=why):
        read_parent(copy)
