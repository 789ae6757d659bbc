import math

import numpy as np
import pytest
import small

from models.config import RetrievalSettings
from models.dataset import TrainingData
from models.divergence import TrainingDiverged, check_loss
from models.fitting import Timer, fit
from models.retrieval_training import RetrievalTrainer
from models.sharding import process_group
from models.spec import Lineage


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_training(last: float) -> None:
    with pytest.raises(TrainingDiverged, match=rf"step 3 is {last}"):
        check_loss([1.0, 1.0, last])


def test_a_spike_stops_training_once_there_is_something_to_compare_with() -> None:
    check_loss([1.0] * 49 + [5.1])
    check_loss([1.0] * 50 + [5.0])
    with pytest.raises(TrainingDiverged, match=r"step 51 is 5\.1 after a median of 1"):
        check_loss([1.0] * 50 + [5.1])


def test_absurd_rates_stop_the_sequence_model_with_a_sentence(data: TrainingData) -> None:
    settings = RetrievalSettings(
        length=8, dim=8, epochs=20, batch_size=4, learning_rate=1e6, embedding_learning_rate=1e6
    )
    with process_group():
        trainer = RetrievalTrainer(settings, np.zeros((len(data.items), 1), dtype=np.float32), 1)
        with pytest.raises(TrainingDiverged, match="lower the learning rates"):
            trainer.train(data.log, settings.epochs, 1.0, lambda _step: None)


def test_absurd_rates_stop_the_ranker_with_a_sentence(data: TrainingData) -> None:
    ranking = small.SETTINGS.ranking.model_copy(
        update={"epochs": 30, "learning_rate": 1e9, "embedding_learning_rate": 1e9}
    )
    settings = small.SETTINGS.model_copy(update={"ranking": ranking})
    heard: list[str] = []
    timer = Timer(lambda part, _step: heard.append(part))
    with pytest.raises(TrainingDiverged, match=r"the loss of step \d+ is .*lower the learning rates"):
        fit(data, settings, Lineage({}, small.SEED, "test"), timer)
    assert heard[-1] == "ranking"
