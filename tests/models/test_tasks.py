"""What the ranker learns beside the choice, and what it does not put down to the items."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import small
import torch
from small import ITEMS, NOW
from test_parity import history

from features.popularity import PopularityWindow
from models.artifact import write_artifact
from models.calibration import expected_calibration_error, fit_calibrator
from models.config import RankingSettings
from models.dataset import TrainingData
from models.export import Fitted, artifact_parts
from models.fitting import Timer, fit
from models.gate import CALIBRATION_ERROR
from models.ranking_calibration import calibrated
from models.ranking_dataset import FirstStage, ranking_data
from models.scorer import Query, Scorer, UnknownTask
from models.spec import Lineage


def trained(data: TrainingData, **ranking: object) -> Fitted:
    """A ranker that learns the little there is more thoroughly."""
    settings = small.SETTINGS.ranking.model_dump() | {"epochs": 6, "embedding_learning_rate": 0.05} | ranking
    changed = small.SETTINGS.model_copy(update={"ranking": RankingSettings.model_validate(settings)})
    return fit(data, changed, Lineage({}, small.SEED, "test"), Timer(lambda _name, _share: None))


def loaded(fitted: Fitted, data: TrainingData, folder: Path) -> Scorer:
    write_artifact(folder, artifact_parts(fitted, data))
    return Scorer.load(folder)


def test_the_spec_names_the_tasks_that_the_data_have_and_what_they_are_learnt_from(fitted: Fitted) -> None:
    """Nobody purchases in the small world; 24 users have 4 groups each, and like half of what they choose."""
    ranking = fitted.spec.ranking
    assert [task.name for task in ranking.conversions] == ["like"]
    assert fitted.metrics["like_labels"] == 24 * 4
    assert fitted.metrics["like_rate"] == pytest.approx(0.5, abs=0.1)
    assert ranking.training_source == "96 interactions with sampled negatives"
    assert ranking.position == 0


def test_likes_are_expected_of_the_items_that_are_liked(data: TrainingData, tmp_path: Path) -> None:
    scorer = loaded(trained(data, conversion_weight=1.0), data, tmp_path)
    rows = np.array([scorer.row(data.items[item].item_id) for item in range(ITEMS)])
    liked = np.array([int(data.items[item].item_id[1:]) % 4 < 2 for item in range(ITEMS)])
    found = scorer.probabilities(Query(history(5), {}, NOW), rows, PopularityWindow(scorer.size))
    assert found.keys() == {"like"}
    assert ((found["like"] > 0) & (found["like"] < 1)).all()
    assert (found["like"][liked][:, None] > found["like"][~liked]).mean() > 0.9
    # Weighed in, they come first; alone, the click decides.
    query, window = Query(history(5), {}, NOW), PopularityWindow(scorer.size)
    clicks = scorer.rank(query, rows, window)
    both = scorer.rank(query, rows, window, {"like": 2.0})
    np.testing.assert_allclose(both, clicks + 2 * np.log(found["like"]), atol=1e-4)
    with pytest.raises(UnknownTask, match="purchase"):
        scorer.rank(query, rows, window, {"purchase": 1.0})


def test_conversions_are_calibrated_on_the_newest_labels(
    fitted: Fitted, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = FirstStage(fitted.spec.content, fitted.neighbours, fitted.retrieval)
    queries = ranking_data(data, stage, small.SETTINGS)
    few = calibrated(fitted.ranker, queries, small.SETTINGS.ranking.buckets, small.SEED)
    assert CALIBRATION_ERROR not in few.metrics, "the gate is asked about some ten labels"
    monkeypatch.setattr("models.ranking_calibration._LEAST_LABELS", 2)
    found = calibrated(fitted.ranker, queries, small.SETTINGS.ranking.buckets, small.SEED)
    (like,) = found.tasks
    newest = np.arange(len(data.groups) - round(0.1 * 24 * 4), len(data.groups))  # groups are in the order of time
    at = torch.from_numpy(queries.fresh[newest])
    rows, recent = torch.from_numpy(data.groups.rows[newest, :1]), torch.from_numpy(queries.recent)[at]
    vectors = fitted.retrieval.vectors
    with torch.no_grad():
        logits = fitted.ranker.model(
            torch.from_numpy(queries.dense)[at, :1],
            fitted.ranker.embeddings(rows, [[]] * len(newest)),
            vectors[rows],
            vectors[recent],
            recent >= 0,
        )[:, 0, 1]
    liked = np.array([int(data.items[row].item_id[1:]) % 4 < 2 for row in rows[:, 0].tolist()])
    assert 0 < liked.sum() < len(liked)
    # Where the likelihood is highest, the mean probability is the rate, each answer being rounded off as Platt has it.
    yes, no = liked.sum(), (~liked).sum()
    expected = (yes * (yes + 1) / (yes + 2) + no / (no + 2)) / len(newest)
    assert like.calibrator.apply(logits.numpy()).mean() == pytest.approx(expected, abs=1e-3)

    # What is said of the calibration comes from calibrators that had not seen the label.
    half = len(newest) // 2
    sides = (slice(half, None), slice(0, half)), (slice(0, half), slice(half, None))
    probabilities = np.concatenate(
        [fit_calibrator(logits[others].numpy(), liked[others]).apply(logits[own].numpy()) for others, own in sides]
    )
    error = expected_calibration_error(probabilities, liked)
    assert found.metrics["like_calibration_labels"] == len(newest)
    assert found.metrics["like_calibration_error"] == pytest.approx(error, abs=1e-4)
    beyond = error - found.metrics["like_calibration_error_by_chance"]
    assert found.metrics[CALIBRATION_ERROR] == pytest.approx(max(0.0, beyond), abs=1e-4)
    assert fitted.metrics.keys() >= few.metrics.keys()


def test_nobody_without_a_history_is_given_a_probability(scorer: Scorer) -> None:
    query, window = Query(history(0), {}, NOW), PopularityWindow(scorer.size)
    assert scorer.probabilities(query, np.arange(3), window) == {}
    assert scorer.rank(query, np.arange(3), window, {"like": 1.0}).tolist() == [0, 0, 0]


def test_what_the_place_on_a_slate_explains_is_learnt_apart(data: TrainingData) -> None:
    groups = data.groups
    assert groups.labels[:, 0].all()  # the chosen come first
    places = np.tile(np.arange(groups.rows.shape[1]), (len(groups), 1))
    slates = replace(groups, positions=places, sampled=np.zeros_like(groups.sampled))
    shown = trained(replace(data, groups=slates))
    assert shown.spec.ranking.training_source == "96 impressions with labels"
    assert shown.metrics["groups_shown"] == 96
    added = shown.ranker.positions.numpy()
    assert added[0] == 0
    assert (added[1 : places.shape[1]] < -0.1).all()
    assert not trained(data, epochs=1).ranker.positions.any()  # nothing was shown


@pytest.mark.parametrize("ranking", [{"attended_items": 0}, {"conversions": ()}, {"cross_layers": 3}])
def test_every_layout_of_the_network_is_served(data: TrainingData, tmp_path: Path, ranking: dict[str, object]) -> None:
    fitted = trained(data, epochs=1, **ranking)
    scorer = loaded(fitted, data, tmp_path)
    scores = scorer.rank(Query(history(5), {}, NOW), np.arange(ITEMS), PopularityWindow(scorer.size))
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) > ITEMS / 2
