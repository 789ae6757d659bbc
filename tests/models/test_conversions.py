"""Which acts on chosen items are labels of which task, and which of them count."""

import numpy as np
import pytest

from models.config import RankingSettings
from models.conversions import Conversions, conversions_of
from models.dataset import ItemFeatures, TrainingData
from models.groups import Groups
from models.log import KINDS, Log

MINUTE, DAY = 60_000, 86_400_000
ASKED = 1_000 * DAY


def log(*events: tuple[int, int, int, str, float]) -> Log:
    """Events as (user, row, time, kind, value), ordered by user and time."""
    users, rows, times, kinds, values = zip(*events, strict=True)
    return Log(
        users=np.array(users),
        rows=np.array(rows),
        times=np.array(times),
        kinds=np.array([KINDS.index(kind) for kind in kinds]),
        starts=np.searchsorted(np.array(users), np.arange(max(users) + 2)),
        values=np.array(values, dtype=np.float64),
    )


def groups(rows: list[list[int]], users: list[int], times: list[int], chosen: list[list[int]]) -> Groups:
    """Groups all of whose candidates are real, with 1 where one was chosen."""
    table = np.array(rows)
    flat = np.zeros(table.shape, dtype=np.float32)
    return Groups(
        users=np.array(users),
        times=np.array(times),
        rows=table,
        present=np.ones(table.shape, dtype=np.bool_),
        labels=np.array(chosen) > 0,
        sampled=np.array(chosen) == 0,
        positions=np.full(table.shape, -1),
        interactions_total=flat,
        mean_value=flat,
        user_values=[],
        user_attributes=[],
    )


def found(acts: Log, asked: Groups, until: int, **settings: object) -> Conversions:
    nothing = np.zeros(0, dtype=np.float32)
    data = TrainingData([], acts, asked, ItemFeatures(nothing, nothing), 0.0, until)
    settings = {"calibration_share": 0.1, **settings}
    return conversions_of(data, np.ones(len(asked), dtype=np.bool_), RankingSettings.model_validate(settings))


NAN = float("nan")
ACTS = log(
    (0, 1, ASKED - 1, "like", NAN),  # before the asking
    (0, 2, ASKED, "rating", 4.0),
    (0, 3, ASKED, "rating", 3.5),
    (0, 4, ASKED + 30 * MINUTE - 1, "like", NAN),
    (0, 5, ASKED + 30 * MINUTE, "like", NAN),  # too late
    (1, 1, ASKED, "like", NAN),  # somebody else
)
ONE = groups([[1, 2, 3, 4, 5, 6]], [0], [ASKED], [[1, 1, 1, 1, 1, 0]])


def test_a_like_or_a_rating_high_enough_within_the_window_is_a_like() -> None:
    two = groups([ONE.rows[0].tolist()] * 2, [0, 1], [ASKED] * 2, [[1, 1, 1, 1, 1, 0]] * 2)
    likes = found(ACTS, two, ASKED + DAY, calibration_share=0.5)
    assert likes.names == ("like",)  # nobody purchased anything
    assert likes.labels[0, :, 0].tolist() == [False, True, False, True, False, False]
    assert likes.known[0, :, 0].tolist() == [True, True, True, True, True, False]  # the last one was not chosen
    assert likes.counts() == {"like_labels": 10, "like_rate": pytest.approx(3 / 10)}
    assert found(ACTS, two, ASKED + DAY, like_value=3.0).labels[0, 2, 0]


def test_a_label_counts_once_its_window_is_closed() -> None:
    users, times, rows = [0, 0, 0], [ASKED - 8 * DAY, ASKED - 7 * DAY, ASKED - 7 * DAY + 1], [[1], [2], [3]]
    acts = log(*((0, row[0], time, "purchase", NAN) for row, time in zip(rows[:1], times[:1], strict=True)))
    asked = groups(rows * 2, users * 2, times * 2, [[1]] * 6)
    purchases = found(acts, asked, ASKED, calibration_share=0.01)
    assert purchases.names == ("purchase",)
    assert purchases.known[:, 0, 0].tolist() == [True, True, False, True, True, False]


def test_the_newest_labels_are_held_out_and_never_trained_on() -> None:
    count = 40
    acts = log(*((0, number, ASKED + number * DAY, "rating", 5.0 - 4 * (number % 2)) for number in range(count)))
    asked = groups(
        [[number] for number in range(count)],
        [0] * count,
        [ASKED + number * DAY for number in range(count)],
        [[1]] * count,
    )
    likes = found(acts, asked, ASKED + 100 * DAY, calibration_share=0.2)
    assert likes.held_out[:, 0, 0].tolist() == [number >= 32 for number in range(count)]
    # The newest are those whose windows are closed.
    likes = found(acts, asked, ASKED + 10 * DAY, calibration_share=0.2)
    assert np.flatnonzero(likes.held_out).tolist() == [8, 9]


@pytest.mark.parametrize("values", [(5.0, 5.0), (1.0, 1.0)])
def test_a_task_of_which_all_labels_say_the_same_is_left_out(values: tuple[float, float]) -> None:
    acts = log(*((0, row, ASKED, "rating", value) for row, value in enumerate(values)))
    likes = found(acts, groups([[0], [1], [0]], [0] * 3, [ASKED] * 3, [[1]] * 3), ASKED + DAY)
    assert likes.names == ()
    assert likes.labels.shape == (3, 1, 0)
