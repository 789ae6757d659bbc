"""A model that reads text, from training to serving. The vectors are made by hand; the encoder has its own tests."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from small_lake import write_lake

from features.config import LakeSettings
from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.artifact import Artifact, write_artifact
from models.content import ItemContent, content_vectors, fit_content
from models.dataset import TrainingData
from models.export import Fitted, artifact_parts
from models.fitting import Timer, fit
from models.ranking_features import feature_names
from models.registry import Registry
from models.retrieval_training import RetrievalTrainer
from models.scorer import Query, Scorer
from models.sharding import limited_threads, process_group
from models.spec import Lineage
from models.start import Parent, read_parent
from models.text import NoText
from models.text_encoder import MiniLm, TextExtraMissing
from models.text_reading import text_reader
from models.trainer_state import TrainerState
from models.training import train
from models.warm_start import carried_content, carried_state
from streaming.events import Kind
from streaming.ids import EventId, ItemId
from streaming.namespace import parse_namespace

WIDE, WIDTH = 6, 3
SETTINGS = small.SETTINGS.model_copy(
    update={"text": small.SETTINGS.text.model_copy(update={"enabled": True, "width": WIDTH})}
)
CONTENT = "model.content.weight"
WITHOUT = 5  # items of the small world that have no text


@pytest.fixture(scope="module")
def texts(data: TrainingData) -> TrainingData:
    print("seed", small.SEED)  # noqa: T201
    vectors = np.random.default_rng(small.SEED).normal(size=(len(data.items), WIDE)).astype(np.float32)
    items = [
        replace(item, text_vector=None if row < WITHOUT else vectors[row] / np.linalg.norm(vectors[row]))
        for row, item in enumerate(data.items)
    ]
    return replace(data, items=items)


@pytest.fixture(scope="module")
def trained(texts: TrainingData) -> Fitted:
    return fit(texts, SETTINGS, Lineage({}, small.SEED, "test"), Timer(lambda _name, _share: None))


@pytest.fixture(scope="module")
def folder(trained: Fitted, texts: TrainingData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text")
    write_artifact(folder, artifact_parts(trained, texts))
    return folder


def new_item(text_vector: np.ndarray | None) -> ItemContent:
    return ItemContent(ItemId("new"), categories=["c1"], attributes={"year": 2000.0}, text_vector=text_vector)


def served_vector(folder: Path, item: ItemContent) -> np.ndarray:
    scorer = Scorer.load(folder)
    row = scorer.add_item(item)
    return scorer._retrieval.vectors.take(np.array([row]))[0]


def test_the_artifact_holds_its_items_text_and_what_new_ones_need(folder: Path, texts: TrainingData) -> None:
    artifact = Artifact.open(folder)
    spec = artifact.spec.content
    assert (spec.text_width, spec.width) == (1 + WIDTH, 4 + 1 + 1 + WIDTH)
    np.testing.assert_array_equal(artifact.floats("item_content"), content_vectors(spec, texts.items))
    assert artifact.floats("item_content")[:, -spec.text_width].tolist() == [0.0] * WITHOUT + [1.0] * 35


def test_a_new_item_s_vector_is_that_of_its_content_with_its_text(folder: Path, texts: TrainingData) -> None:
    """The formula by hand: the shared row + the projection of flag and text vector beside categories and year."""
    artifact, vector = Artifact.open(folder), texts.items[-1].text_vector
    assert vector is not None
    content = np.zeros(9, dtype=np.float32)
    content[1] = 1.0
    years = 1990 + np.arange(40)
    content[4] = (2000 - years.mean()) / years.std()
    content[5] = 1.0
    content[6:] = artifact.floats("item_content")[-1, 6:]
    wanted = artifact.floats("shared_vectors")[0] + content @ artifact.floats("content_projection")
    np.testing.assert_allclose(served_vector(folder, new_item(vector)), wanted, atol=1e-5)


def test_a_new_item_without_its_text_yet_is_read_with_zeros(folder: Path) -> None:
    artifact = Artifact.open(folder)
    content = content_vectors(artifact.spec.content, [new_item(None)])[0]
    assert content[5:].tolist() == [0.0] * (1 + WIDTH)
    wanted = artifact.floats("shared_vectors")[0] + content[:5] @ artifact.floats("content_projection")[:5]
    np.testing.assert_allclose(served_vector(folder, new_item(None)), wanted, atol=1e-6)


def test_the_trainer_s_vectors_are_those_that_are_served(trained: Fitted, folder: Path) -> None:
    """An item is the sum of its own row and its content, text included, in both."""
    artifact = Artifact.open(folder)
    content = artifact.floats("item_content") @ artifact.floats("content_projection")
    own = trained.retrieval.table.numpy()[:-1]
    np.testing.assert_allclose(artifact.floats("item_vectors"), own + content, atol=1e-5)


def test_the_ranker_reads_no_text(folder: Path, fitted: Fitted) -> None:
    assert feature_names(Artifact.open(folder).spec.content) == feature_names(fitted.spec.content)
    scorer = Scorer.load(folder)
    row = scorer.add_item(new_item(None))
    history = History((HistoryEvent(small.NOW, EventId("e"), ItemId("i3"), Kind.CLICK),))
    ranked = scorer.rank(Query(history, {}, small.NOW + 60_000), np.array([row, 0]), PopularityWindow(scorer.size))
    assert np.isfinite(ranked).all()


def test_a_model_without_the_setting_reads_no_text_even_where_there_is_some(
    texts: TrainingData, fitted: Fitted
) -> None:
    assert fit_content(texts.items) == fitted.spec.content
    assert fitted.spec.content.text is None


def test_reading_text_without_any_says_what_to_do(data: TrainingData) -> None:
    with pytest.raises(NoText, match="unset"):
        fit(data, SETTINGS, Lineage({}, 1, "test"), Timer(lambda _name, _share: None))


def test_in_training_the_text_is_missing_now_and_then_and_nothing_else_is(texts: TrainingData) -> None:
    """Else the weights of the flag would never learn what its absence means, and a new item starts without text."""
    share = 0.4
    settings = SETTINGS.retrieval.model_copy(update={"unknown_share": share})
    content = content_vectors(fit_content(texts.items, WIDTH), texts.items)
    rows = np.arange(WITHOUT, len(content)).repeat(50)
    with process_group(), limited_threads(1):
        seen = RetrievalTrainer(settings, content, small.SEED, text_width=1 + WIDTH)._content_of(rows).numpy()
        whole = RetrievalTrainer(settings, content, small.SEED)._content_of(rows).numpy()
    np.testing.assert_array_equal(whole, content[rows])
    np.testing.assert_array_equal(seen[:, :5], content[rows, :5])
    missing = seen[:, 5] == 0
    assert missing.mean() == pytest.approx(share, abs=0.05)
    assert not seen[missing, 5:].any()
    np.testing.assert_array_equal(seen[~missing], content[rows[~missing]])


def test_the_training_job_encodes_titles_and_stores_them_with_the_model(tmp_path: Path, data: TrainingData) -> None:
    settings, shop = SETTINGS.under(tmp_path), parse_namespace("shop")
    lake = write_lake(tmp_path, shop, small.lake_tables())
    trained = train(settings, lake, shop, small.NOW, lambda _name, _step: None)
    Registry(str(tmp_path / "models"), shop).fetch(trained.version, tmp_path / "fetched")
    artifact = Artifact.open(tmp_path / "fetched")
    assert (tmp_path / "texts" / "shop.safetensors").is_file()
    assert artifact.spec.content.text is not None
    assert artifact.spec.content.text.encoder == MiniLm.name
    encoded = MiniLm.installed().encode([item.title for item in data.items])
    items = [replace(item, text_vector=vector) for item, vector in zip(data.items, encoded, strict=True)]
    expected = content_vectors(artifact.spec.content, items)
    np.testing.assert_allclose(artifact.floats("item_content"), expected, atol=1e-4)


def test_the_training_job_says_before_it_reads_that_the_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tokenizers" else find(name))
    with pytest.raises(TextExtraMissing, match="uv sync --extra text"):  # and not that there is no lake
        train(SETTINGS.under(tmp_path), LakeSettings(), parse_namespace("shop"), small.NOW, lambda _name, _step: None)


def test_where_text_is_not_asked_for_nothing_is_encoded(data: TrainingData) -> None:
    assert text_reader(small.SETTINGS.text, parse_namespace("shop"))(data) is data


def fresh(parent: Parent, columns: int) -> TrainerState:
    """A state that nothing was learnt of: every weight is -1, every sum is 0."""
    old = parent.start.state
    weights = {name: torch.full_like(value, -1.0) for name, value in old.weights.items()}
    weights[CONTENT] = torch.full((len(old.weights[CONTENT]), columns), -1.0)
    return TrainerState(weights, torch.zeros_like(old.sums))


def test_a_retraining_reads_text_in_the_champion_s_directions_and_with_its_weights(
    folder: Path, texts: TrainingData
) -> None:
    parent = read_parent(Artifact.open(folder))
    other_texts = [replace(item, text_vector=item.text_vector) for item in texts.items[: small.ITEMS // 2]]
    fitted = fit_content(other_texts, WIDTH)
    before = parent.spec.content
    content = carried_content(fitted, before)
    assert content.text == before.text != fitted.text
    state = carried_state(parent, fresh(parent, content.width), parent.start.vocabulary, content)
    carried, old = (weights[CONTENT][:, -1 - WIDTH :] for weights in (state.weights, parent.start.state.weights))
    assert torch.equal(carried, old)


@pytest.mark.parametrize("width", [WIDTH - 1, WIDTH])
def test_text_that_the_champion_did_not_read_so_begins_anew(
    folder: Path, artifact: Path, texts: TrainingData, width: int
) -> None:
    """A champion of another width, and one without text."""
    parent = read_parent(Artifact.open(folder if width != WIDTH else artifact))
    fitted = fit_content(texts.items, width)
    content = carried_content(fitted, parent.spec.content)
    assert content.text == fitted.text
    state = carried_state(parent, fresh(parent, content.width), parent.start.vocabulary, content)
    assert (state.weights[CONTENT][:, -1 - width :] == -1.0).all()
    assert torch.equal(state.weights[CONTENT][:, :5], parent.start.state.weights[CONTENT][:, :5])
