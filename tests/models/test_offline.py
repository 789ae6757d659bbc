"""Offline evaluation with the artifact's own scorer."""

import math

from models.offline import Slice, evaluate
from models.scorer import Scorer
from models.vocabulary import ItemRow
from streaming.ids import UserId


def test_without_history_or_popularity_items_come_by_row_and_targets_score_by_their_place(scorer: Scorer) -> None:
    first, third = scorer.item_id(ItemRow(0)), scorer.item_id(ItemRow(2))
    held_out = {UserId("a"): [first], UserId("b"): [third], UserId("c"): [first, third], UserId("d"): []}
    measured = evaluate(scorer, Slice(scorer.trained_until, {}, {}).followed_by(held_out))
    ideal = 1 + 1 / math.log2(3)
    assert measured.model_version == scorer.version
    assert measured.coverage10 == 10  # all three see the same ten
    assert measured.ndcg10 == {"a": 1.0, "b": 1 / math.log2(4), "c": (1 + 1 / math.log2(4)) / ideal}
