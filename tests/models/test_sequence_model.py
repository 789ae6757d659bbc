"""The sequence model on behaviour of which only the order is known."""

import numpy as np
import pytest

from models.config import RetrievalSettings
from models.leave_one_out import evaluate
from models.sequence_model import SequenceModel, fit_sequence_model
from models.sequences import Sequences

ITEMS, USERS, EVENTS, SEED = 40, 60, 14, 3
QUICK = RetrievalSettings(length=8, dim=16, heads=1, blocks=1, dropout=0.1, epochs=25, batch_size=8, average=0.9)


@pytest.fixture(scope="module")
def circle() -> Sequences:
    """Users who start somewhere in a circle of items and go round it."""
    print("seed", SEED)  # noqa: T201
    first = np.random.default_rng(SEED).integers(0, ITEMS, USERS)
    rows = (first[:, None] + np.arange(EVENTS)) % ITEMS
    return Sequences(ITEMS, rows.ravel().astype(np.int32), np.arange(USERS + 1) * EVENTS)


def fitted(sequences: Sequences, **changes: object) -> SequenceModel:
    settings = QUICK.model_copy(update=changes)
    return fit_sequence_model(sequences.training(), settings, SEED, threads=1, report=lambda _share: None)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bfloat16": True},
        {"mask_seen": True},
        {"mask_seen": True, "full_softmax_items": 1, "sampled_negatives": 20},
        {"embedding_optimizer": "adam", "embedding_learning_rate": 0.02},
        {"embedding_optimizer": "adam", "embedding_learning_rate": 0.005, "input_scale": 4.0},
    ],
    ids=str,
)
def test_what_always_follows_is_found(circle: Sequences, changes: dict[str, object]) -> None:
    outcome = evaluate(fitted(circle, **changes), circle.test(), circle.training())
    assert outcome.ndcg10.mean() > 0.9


def test_only_the_newest_part_of_a_long_history_is_read(circle: Sequences) -> None:
    model = fitted(circle, epochs=1)
    whole = circle.test().histories
    starts = np.arange(USERS + 1) * QUICK.length
    ends = np.repeat(whole.starts[1:], QUICK.length) - np.tile(np.arange(QUICK.length, 0, -1), USERS)
    newest = Sequences(ITEMS, whole.rows[ends], starts)
    np.testing.assert_allclose(model.scores(whole), model.scores(newest), rtol=1e-5)


def test_a_user_s_scores_do_not_depend_on_who_is_asked_with_them(circle: Sequences) -> None:
    model = fitted(circle, epochs=1)
    histories = circle.test().histories
    np.testing.assert_allclose(model.scores(histories)[5:6], model.scores(histories.batch(5, 6)), rtol=1e-4, atol=1e-5)


def test_the_served_weights_are_the_running_average(circle: Sequences) -> None:
    last, forgetful, averaged = (fitted(circle, epochs=3, average=decay).trained.table for decay in (0.0, 1e-9, 0.9))
    np.testing.assert_allclose(forgetful, last, atol=1e-6)
    assert np.abs(averaged.numpy() - last.numpy()).max() > 1e-3
