"""One contract for all baselines, those that are asked user by user and those that are asked for many at once."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest

from models import sequence_baselines
from models.baselines import (
    Baseline,
    DecayedPopularity,
    Ease,
    ItemKnn,
    Markov,
    OfOrder,
    Popularity,
    Product,
    RecentPopularity,
)
from models.ials import Ials
from models.leave_one_out import SequenceRanker
from models.sequences import Sequences
from streaming.dataset import InteractionRecord
from streaming.events import Kind
from streaming.ids import ItemId, UserId

SEED, USERS, ITEMS, EVENTS = 9, 30, 25, 12
DAY = 86_400_000
NOW = 60 * DAY
STRANGER = UserId("nobody has seen this user")

Live = Callable[[Sequence[InteractionRecord]], Baseline]
Frozen = Callable[[Sequences], SequenceRanker]

IALS = partial(Ials, factors=4, regularization=1.0, alpha=2.0, seed=SEED)
FROZEN: dict[str, Frozen] = {
    "popularity": sequence_baselines.Popularity,
    "item_knn": sequence_baselines.ItemKnn,
    "ease": sequence_baselines.Ease,
    "markov": sequence_baselines.Markov,
    "ials": IALS,
}
PERSONAL: dict[str, Live] = {
    "item_knn": ItemKnn,
    "ease": Ease,
    "markov": Markov,
    "ials": lambda train: OfOrder(train, IALS),
}
COUNTING: dict[str, Live] = {
    "popularity_30d": partial(RecentPopularity, days=30),
    "popularity_decayed": partial(DecayedPopularity, half_life_days=14),
    "product": lambda train: Product(train, Markov(train), RecentPopularity(train, 30)),
}
LIVE: dict[str, Live] = {"popularity": Popularity} | PERSONAL | COUNTING
NO_HISTORY_SAYS_NOTHING = ("item_knn", "ease", "ials")

live = pytest.mark.parametrize("fit", LIVE.values(), ids=LIVE)
frozen = pytest.mark.parametrize("fit", FROZEN.values(), ids=FROZEN)


def event(number: int, user: str, item: str, time: int) -> InteractionRecord:
    return InteractionRecord(number, UserId(user), ItemId(item), Kind.CLICK, None, time)


@pytest.fixture(scope="module")
def train() -> list[InteractionRecord]:
    """Users who walk through the items, some of them more often than others, over the last days."""
    print("seed", SEED)  # noqa: T201
    rng = np.random.default_rng(SEED)
    starts = rng.integers(0, ITEMS, USERS)
    walks = [(user, (starts[user] + step) % ITEMS, step) for user in range(USERS) for step in range(EVENTS)]
    walks.sort(key=lambda walk: (walk[2], walk[0]))
    return [
        event(number, f"u{user}", f"i{item}", NOW - (EVENTS - step) * DAY + user)
        for number, (user, item, step) in enumerate(walks)
    ]


@pytest.fixture(scope="module")
def training(train: list[InteractionRecord]) -> Sequences:
    rows = [int(one.item_id[1:]) for user in range(USERS) for one in train if one.user_id == f"u{user}"]
    return Sequences(ITEMS, np.array(rows, dtype=np.int32), np.arange(USERS + 1) * EVENTS)


def seen(train: list[InteractionRecord], user: str) -> set[str]:
    return {one.item_id for one in train if one.user_id == user}


@live
def test_scores_are_a_finite_number_for_every_item_in_an_array_of_ones_own(
    fit: Live, train: list[InteractionRecord]
) -> None:
    ranker = fit(train)
    for user in (UserId("u0"), STRANGER):
        scores = ranker.scores(user, NOW)
        assert (scores.shape, scores.dtype) == ((ITEMS,), np.float64)
        assert np.isfinite(scores).all()
        before = scores.copy()
        scores[:] = -1.0
        assert ranker.scores(user, NOW).tolist() == before.tolist()


@live
def test_an_answer_holds_every_unseen_item_once_and_no_seen_one(fit: Live, train: list[InteractionRecord]) -> None:
    ranker = fit(train)
    for user in ("u0", "u7", STRANGER):
        answer = ranker.answer(UserId(user), NOW, ITEMS)
        assert set(answer) == set(ranker.items) - seen(train, user)
        assert len(answer) == len(set(answer))
        assert ranker.answer(UserId(user), NOW, 3) == answer[:3]


@live
def test_fitting_again_gives_the_same_scores(fit: Live, train: list[InteractionRecord]) -> None:
    first, second = fit(train), fit(train)
    for user in (UserId("u0"), UserId("u7"), STRANGER):
        assert first.scores(user, NOW).tolist() == second.scores(user, NOW).tolist()


@live
def test_all_unknown_users_get_the_same_answer(fit: Live, train: list[InteractionRecord]) -> None:
    ranker = fit(train)
    assert ranker.answer(STRANGER, NOW, ITEMS) == ranker.answer(UserId("another one"), NOW, ITEMS)


@pytest.mark.parametrize("name", NO_HISTORY_SAYS_NOTHING)
def test_without_a_history_what_knows_histories_alone_scores_zero(name: str, train: list[InteractionRecord]) -> None:
    assert not LIVE[name](train).scores(STRANGER, NOW).any()


def test_without_a_history_the_chain_falls_back_on_the_share_of_targets(train: list[InteractionRecord]) -> None:
    ranker = Markov(train)
    weights = dict.fromkeys(ranker.items, 0.0)
    for user in range(USERS):
        for place, one in enumerate(one for one in train if one.user_id == f"u{user}"):
            weights[one.item_id] += sum(1 / distance for distance in range(1, 1 + min(5, place)))
    expected = [0.01 * weight / sum(weights.values()) for weight in weights.values()]
    assert ranker.scores(STRANGER, NOW).tolist() == pytest.approx(expected)


@live
def test_what_is_observed_is_never_shown_to_that_user_again(fit: Live, train: list[InteractionRecord]) -> None:
    ranker = fit(train)
    first = ranker.answer(STRANGER, NOW, ITEMS)[0]
    ranker.observe(event(len(train), STRANGER, first, NOW))
    assert first not in ranker.answer(STRANGER, NOW + 1, ITEMS)


@pytest.mark.parametrize("fit", PERSONAL.values(), ids=PERSONAL)
def test_what_is_observed_of_a_user_changes_their_scores_and_nobody_elses(
    fit: Live, train: list[InteractionRecord]
) -> None:
    ranker = fit(train)
    own, others = ranker.scores(STRANGER, NOW).tolist(), ranker.scores(UserId("u0"), NOW).tolist()
    ranker.observe(event(len(train), STRANGER, "i3", NOW))
    assert ranker.scores(STRANGER, NOW).tolist() != own
    assert ranker.scores(UserId("u0"), NOW).tolist() == others


@pytest.mark.parametrize("fit", COUNTING.values(), ids=COUNTING)
def test_what_is_observed_counts_for_everybody_where_popularity_is_live(
    fit: Live, train: list[InteractionRecord]
) -> None:
    ranker = fit(train)
    before = ranker.scores(UserId("u0"), NOW + 1).tolist()
    ranker.observe(event(len(train), "u1", "i3", NOW))
    after = ranker.scores(UserId("u0"), NOW + 1).tolist()
    assert after[3] > before[3] or before[3] == 0
    assert [a for item, a in enumerate(after) if item != 3] == [b for item, b in enumerate(before) if item != 3]


def test_plain_popularity_is_of_training_alone(train: list[InteractionRecord]) -> None:
    ranker = Popularity(train)
    before = ranker.scores(UserId("u0"), NOW).tolist()
    ranker.observe(event(len(train), "u0", "i3", NOW))
    assert ranker.scores(UserId("u0"), NOW + 1).tolist() == before


@live
def test_an_item_outside_the_catalogue_is_left_out(fit: Live, train: list[InteractionRecord]) -> None:
    ranker = fit(train)
    before = ranker.scores(STRANGER, NOW + 1).tolist()
    ranker.observe(event(len(train), STRANGER, "a new item", NOW))
    assert ranker.scores(STRANGER, NOW + 1).tolist() == before
    assert "a new item" not in ranker.answer(STRANGER, NOW + 1, ITEMS)


@live
def test_a_catalogue_of_one_item_is_answered(fit: Live) -> None:
    ranker = fit([event(0, "a", "only", NOW - DAY), event(1, "b", "only", NOW - DAY)])
    assert ranker.answer(STRANGER, NOW, 10) == ["only"]
    assert ranker.answer(UserId("a"), NOW, 10) == []


@live
def test_nothing_to_be_fitted_on_is_an_error(fit: Live) -> None:
    with pytest.raises(ValueError, match="needs an event"):
        fit([])


@frozen
def test_frozen_scores_are_finite_and_fp32_or_better_for_every_item_and_do_not_touch_the_histories(
    fit: Frozen, training: Sequences
) -> None:
    ranker, rows = fit(training), training.rows.copy()
    scores = ranker.scores(training)
    assert scores.shape == (USERS, ITEMS)
    assert scores.dtype in (np.float32, np.float64)
    assert np.isfinite(scores).all()
    before = scores.copy()
    scores[:] = -1.0
    assert np.array_equal(ranker.scores(training), before)
    assert np.array_equal(training.rows, rows)


@frozen
def test_fitting_a_frozen_one_again_gives_the_same_scores(fit: Frozen, training: Sequences) -> None:
    assert np.array_equal(fit(training).scores(training), fit(training).scores(training))


@frozen
def test_a_users_frozen_scores_do_not_depend_on_who_else_is_asked_for(fit: Frozen, training: Sequences) -> None:
    ranker = fit(training)
    together = ranker.scores(training)
    for user in (0, 11, USERS - 1):
        alone = ranker.scores(training.batch(user, user + 1))[0]
        assert alone.tolist() == pytest.approx(together[user].tolist(), rel=1e-5, abs=1e-6)


@frozen
def test_frozen_ones_give_all_empty_histories_the_same_scores(fit: Frozen, training: Sequences) -> None:
    nobody = Sequences(ITEMS, np.zeros(0, dtype=np.int32), np.zeros(4, dtype=np.int64))
    scores = fit(training).scores(nobody)
    assert np.isfinite(scores).all()
    assert (scores == scores[0]).all()


@pytest.mark.parametrize("name", sorted(PERSONAL.keys() - {"ials"}))  # whose random start depends on the users' order
def test_live_and_frozen_ones_score_alike(name: str, train: list[InteractionRecord], training: Sequences) -> None:
    expected = FROZEN[name](training).scores(training)
    ranker = PERSONAL[name](train)
    order = [int(item[1:]) for item in ranker.items]
    for user in (0, 11):
        assert ranker.scores(UserId(f"u{user}"), NOW).tolist() == pytest.approx(expected[user][order].tolist())
