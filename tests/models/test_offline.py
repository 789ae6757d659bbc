"""Evaluation on a later time, with the artifact's own scorer and with rankers whose answers are known."""

import math
from typing import Any

import numpy as np
import pytest
import small
from numpy.typing import NDArray

from features.history import HistoryEvent
from models.content import ItemContent
from models.leave_one_out import ScoresUnusable
from models.offline import ModelRanker, evaluate
from models.scorer import Scorer
from models.slices import Past, Slice
from models.time_split import Measured, TimeSplit, ask
from streaming.events import Kind
from streaming.ids import EventId, ItemId, UserId

START = 1_000_000
A, B, C = UserId("a"), UserId("b"), UserId("c")


class Fixed:
    """Gives every user the same scores."""

    def __init__(self, *scores: float, kind: type = np.float64) -> None:
        self._scores = np.array(scores, dtype=kind)

    def scores(self, user_id: UserId) -> NDArray[np.floating[Any]]:
        return self._scores.copy()


def did(item: str, at: int = START - 1, kind: Kind = Kind.CLICK) -> HistoryEvent:
    return HistoryEvent(at, EventId(f"{item} {at}"), ItemId(item), kind)


def past(*items: str, later: str = "") -> Past:
    return Past([did(item) for item in items], {ItemId(item) for item in later})


def asked(part: Slice, ranker: Fixed) -> Measured:
    return ask("fixed", ranker, TimeSplit.of(part))


def test_a_model_that_knows_nothing_ties_all_its_items_and_gets_the_middle(scorer: Scorer) -> None:
    """Without history or popularity every score is the same: 40 items, so ranks are near 19.5 and nobody has a hit."""
    first, third = ItemId("i0"), ItemId("i2")
    events = {UserId("d"): Past([did(f"i{item}", scorer.trained_until - 90 * small.DAY_MS) for item in range(40)])}
    held_out = {A: [first], B: [third], C: [first, third], UserId("e"): []}
    measured = evaluate(scorer, Slice(scorer.trained_until, events, {}).followed_by(held_out))
    assert measured.model_version == scorer.version
    assert measured.coverage10 == 10  # all three are shown the same ten
    assert measured.ndcg10 == {A: 0.0, B: 0.0, C: 0.0}


def test_without_a_history_the_model_answers_what_is_popular(scorer: Scorer) -> None:
    used = [did(f"i{item}", scorer.trained_until - small.DAY_MS) for item in range(5)]
    twice = [did(f"i{item}", scorer.trained_until - small.DAY_MS + 1) for item in range(2)]
    part = Slice(scorer.trained_until, {B: Past(used + twice)}, {}).followed_by({A: [ItemId("i1"), ItemId("i9")]})
    # Item 1 ties with item 0 at the top, so its rank is .5; item 9, which nobody used, is not in the catalogue.
    assert evaluate(scorer, part).ndcg10 == {A: pytest.approx((1 / math.log2(2.5)) / (1 + 1 / math.log2(3)))}


def test_a_slice_without_a_question_is_measured_as_nobody(scorer: Scorer) -> None:
    measured = evaluate(scorer, Slice(scorer.trained_until, {A: past("i1")}, {}))
    assert (measured.ndcg10, measured.coverage10) == ({}, 0)


def test_targets_are_what_the_user_had_not_seen_and_new_ones_have_no_event_before() -> None:
    part = Slice(START, {A: past("1", "2", later="23x"), B: past("3", later="3"), C: past(later="1")}, {})
    split = TimeSplit.of(part)
    assert list(split.catalogue) == ["1", "2", "3"]
    assert split.events.tolist() == [1, 1, 1]
    first, other = split.asked  # b only came to what it had seen
    assert (first.user_id, first.targets.tolist(), sorted(first.seen), first.missing) == (A, [2], [0, 1], 1)
    assert first.new.tolist() == [False, True]  # item x is in nobody's catalogue
    assert (other.user_id, other.targets.tolist(), other.history) == (C, [0], 0)


def test_the_metrics_of_a_worked_example() -> None:
    """Catalogue 1, 2, 3 with 2, 1, 0 events; user a has seen 1 and comes to 3, user c comes to 1, 2 and unknown x."""
    items = {ItemId(name): ItemContent(ItemId(name)) for name in "123"}
    part = Slice(START, {A: past("1", later="3"), B: past("1", "2"), C: past(later="12x")}, {}, items)
    measured = asked(part, Fixed(1.0, 3.0, 2.0))
    values = {metric: list(users.values()) for metric, users in measured.columns.items()}
    assert values["hr10"] == [1.0, 1.0]
    assert values["mrr"] == [1 / 2, 1.0]
    assert values["recall50"] == [1.0, pytest.approx(2 / 3)]
    assert values["ndcg10"] == [
        pytest.approx(1 / math.log2(3)),
        pytest.approx((1 + 1 / math.log2(4)) / (1 + 1 / math.log2(3) + 0.5)),  # item 2 first, item 1 third
    ]
    assert values["new_recall50"] == [1.0, 0.0]
    # a is shown 2 and 3, which have 1/3 and none of the events; c is shown everything.
    assert values["popularity10"] == [pytest.approx(1 / 6), pytest.approx(1 / 3)]
    assert (measured.coverage10, measured.shown10) == (1.0, 3)


def test_what_was_seen_is_masked_whatever_its_score() -> None:
    part = Slice(START, {A: past("1", "2", later="3")}, {}, {ItemId("3"): ItemContent(ItemId("3"))})
    assert asked(part, Fixed(9.0, 8.0, 0.0)).answers[0].ranks.tolist() == [0.0]


def test_negative_feedback_is_seen_but_no_event() -> None:
    part = Slice(START, {A: Past([did("1"), did("2", kind=Kind.HIDE)], {ItemId("3")}), B: past("2", "3")}, {})
    split = TimeSplit.of(part)
    assert dict(zip(split.catalogue, split.events.tolist(), strict=True)) == {"1": 1, "2": 1, "3": 1}
    assert len(split.asked[0].seen) == 2


def test_what_could_not_be_shown_is_nobodys_candidate() -> None:
    items = {ItemId("1"): None, ItemId("4"): ItemContent(ItemId("4"))}
    split = TimeSplit.of(Slice(START, {A: past("2", later="1"), B: past("1")}, {}, items))
    assert list(split.catalogue) == ["2", "4"]
    assert split.asked[0].missing == 1


def test_a_new_item_gets_a_score_by_its_content(scorer: Scorer) -> None:
    new = ItemContent(ItemId("brand new"), categories=("c1",), attributes={"year": 2000.0})
    events = [did(f"i{item}", scorer.trained_until - 1_000 * (9 - item)) for item in range(5)]
    part = Slice(scorer.trained_until, {A: Past(events, {new.item_id})}, {}, {new.item_id: new})
    split = TimeSplit.of(part)
    measured = ask("model", ModelRanker(scorer, part, split), split)
    assert np.isfinite(measured.answers[0].ranks).all()
    assert measured.columns["new_recall50"] == {A: 1.0}


@pytest.mark.parametrize(
    ("ranker", "told"),
    [
        (Fixed(1.0, math.nan), "user 'a' as NaN"),
        (Fixed(1.0), r"scores \(1,\), not one for each of 2"),
        (Fixed(1.0, 2.0, kind=np.float16), "float32 or better"),
    ],
)
def test_scores_that_cannot_be_ranked_by_are_an_error(ranker: Fixed, told: str) -> None:
    with pytest.raises(ScoresUnusable, match=told):
        asked(Slice(START, {A: past("1", later="2"), B: past("2")}, {}), ranker)
