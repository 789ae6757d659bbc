import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.calibration import Calibrator
from models.combining import UnknownTask, combined
from models.spec import TaskSpec

TASKS = (TaskSpec("like", Calibrator(2.0, -1.0)), TaskSpec("purchase", Calibrator(1.0, 0.0)))
LOGITS = np.array([[0.5, 1.0, -2.0], [1.5, 0.0, 3.0]], dtype=np.float32)


def test_without_weights_the_click_alone_decides() -> None:
    assert combined(LOGITS, TASKS, {}).tolist() == [0.5, 1.5]
    assert combined(LOGITS, TASKS, {"like": 0.0}).tolist() == [0.5, 1.5]


def test_weighted_logarithms_of_probabilities_are_added() -> None:
    likes = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))]
    purchases = [1 / (1 + math.exp(2)), 1 / (1 + math.exp(-3))]
    expected = [
        click + 0.5 * math.log(like) - 2 * math.log(purchase)
        for click, like, purchase in zip((0.5, 1.5), likes, purchases, strict=True)
    ]
    assert combined(LOGITS, TASKS, {"like": 0.5, "purchase": -2}).tolist() == pytest.approx(expected)


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3))
def test_a_score_is_finite_however_sure_a_task_is(logits: list[float]) -> None:
    assert np.isfinite(combined(np.array([logits], dtype=np.float32), TASKS, {"like": 1.0, "purchase": 1.0})).all()


def test_a_task_that_the_model_lacks_is_named() -> None:
    with pytest.raises(UnknownTask, match="'rent'"):
        combined(LOGITS, TASKS, {"rent": 1.0})
