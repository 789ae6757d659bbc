import labelled
import numpy as np
import pytest

from models.config import RankingSettings
from models.divergence import TrainingDiverged
from models.logistic_regression import LogisticRegression, Strengths
from models.pointwise import TrainedPointwise
from models.pointwise_data import PointwiseData
from models.pointwise_training import train_pointwise
from models.sharding import limited_threads, process_group

SEED = 3
SETTINGS = RankingSettings(
    attention_dim=8, epochs=6, batch_size=128, learning_rate=5e-3, buckets=64, embedding_learning_rate=1e-3
)
TRAIN, TEST = np.arange(1_920), np.arange(1_920, 2_400)


@pytest.fixture(scope="module")
def data() -> PointwiseData:
    print("seed", SEED)  # noqa: T201
    return labelled.data(labelled.two_camps(SEED), places=30)


@pytest.fixture(scope="module")
def trained(data: PointwiseData) -> TrainedPointwise:
    return train(data, seed=1)


def train(data: PointwiseData, seed: int, settings: RankingSettings = SETTINGS) -> TrainedPointwise:
    with process_group(), limited_threads(1):
        return train_pointwise(settings, data, TRAIN, seed, lambda _step: None)


def log_loss(data: PointwiseData, logits: np.ndarray) -> float:
    return float((np.logaddexp(0, logits) - data.acts.labels[TEST] * logits).mean())


def test_what_the_user_thought_of_alike_items_tells_where_means_do_not(
    data: PointwiseData, trained: TrainedPointwise
) -> None:
    means = LogisticRegression(data, TRAIN, Strengths(10.0, 10.0), 64).logits(data, TEST)
    assert log_loss(data, means) > 0.6
    assert log_loss(data, trained.logits(data, TEST)) < 0.45


def test_a_seed_gives_the_same_model_again_and_another_one_does_not(
    data: PointwiseData, trained: TrainedPointwise
) -> None:
    ours = trained.logits(data, TEST)
    assert (train(data, seed=1).logits(data, TEST) == ours).all()
    assert (train(data, seed=2).logits(data, TEST) != ours).any()


def test_a_logit_does_not_depend_on_what_else_is_asked(data: PointwiseData, trained: TrainedPointwise) -> None:
    together = trained.logits(data, TEST)
    alone = [trained.logits(data, TEST[place : place + 1])[0] for place in range(5)]
    assert together[:5] == pytest.approx(alone, abs=1e-5)
    assert len(trained.logits(data, TEST[:0])) == 0


def test_a_user_without_a_history_has_a_logit(data: PointwiseData, trained: TrainedPointwise) -> None:
    first = np.flatnonzero(data.pairs.history[:, 0] < 0)
    assert len(first) == 60
    assert np.isfinite(trained.logits(data, first)).all()


def test_a_rate_that_is_too_high_stops_the_training(data: PointwiseData) -> None:
    with pytest.raises(TrainingDiverged):
        train(data, seed=1, settings=SETTINGS.model_copy(update={"learning_rate": 1e4, "epochs": 30}))
