"""What is served computes what was trained: ONNX against torch, alone and among batch-mates, for every length."""

import numpy as np
import pytest
import torch
from small import ITEMS, LENGTH, NOW

from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.export import Fitted
from models.inputs import gap_buckets
from models.log import KINDS
from models.scorer import Query, Scorer
from streaming.events import Kind
from streaming.ids import EventId, ItemId

CLICK = KINDS.index(Kind.CLICK.value)


def history(length: int, *, unknown: bool = False) -> History:
    names = [ItemId(f"i{(3 * number) % ITEMS}") for number in range(length)]
    if unknown and names:
        names[0] = ItemId("never seen")
    return clicks(names)


def clicks(names: list[ItemId]) -> History:
    times = range(NOW, NOW + 1_000 * len(names), 1_000)
    return History(
        tuple(HistoryEvent(at, EventId(f"h{at}"), name, Kind.CLICK) for at, name in zip(times, names, strict=True))
    )


def torch_scores(fitted: Fitted, scorer: Scorer, past: History, batch: int) -> np.ndarray:
    """The exact scores of all items for the first of `batch` users, the others having other histories."""
    events = past.events[-LENGTH:]
    rows = np.full((batch, LENGTH), ITEMS)
    kinds, gaps = np.zeros_like(rows), np.zeros_like(rows)
    known = [scorer.row(event.item_id) for event in events]
    rows[0, : len(events)] = [ITEMS if row is None else row for row in known]
    kinds[0, : len(events)] = CLICK
    gaps[0, : len(events)] = gap_buckets(np.array([event.happened_at for event in events]), NOW + 60_000)
    rows[1:] = np.random.default_rng(5).integers(0, ITEMS, (batch - 1, LENGTH))
    last = np.full(batch, LENGTH - 1)
    last[0] = len(events) - 1
    user = fitted.retrieval.user_vectors(rows, kinds, gaps, last)[0]
    with torch.no_grad():
        return fitted.retrieval.vectors[:-1].numpy() @ user


@pytest.mark.parametrize("batch", [1, 2, 33])
@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("length", [1, 2, LENGTH, LENGTH + 1])
def test_retrieval_scores_are_those_of_torch(
    fitted: Fitted, scorer: Scorer, length: int, unknown: bool, batch: int
) -> None:
    past = history(length, unknown=unknown)
    exact = torch_scores(fitted, scorer, past, batch)
    found = scorer.retrieve(Query(past, {}, NOW + 60_000), 20)
    assert np.abs(found.scores - exact[found.rows]).max() < 1e-4
    kth_best = np.sort(exact)[::-1][len(found.rows) - 1]
    assert (exact[found.rows] >= kth_best - 1e-4).all()  # the same items, but for swaps within the tolerance


def test_an_empty_history_never_reaches_the_tower(scorer: Scorer) -> None:
    assert len(scorer.retrieve(Query(History(), {}, NOW), 20).rows) == 0
    window = PopularityWindow(scorer.size)
    window.observe(np.array([3, 3, 5]), np.full(3, NOW - 1_000))
    ranked = scorer.rank(Query(History(), {}, NOW), np.array([5, 3, 1]), window)
    assert ranked.tolist() == [1.0, 2.0, 0.0]


def test_a_candidates_score_does_not_depend_on_the_other_candidates(scorer: Scorer) -> None:
    query, window = Query(history(5), {}, NOW + 60_000), PopularityWindow(scorer.size)
    together = scorer.rank(query, np.arange(ITEMS), window)
    for row in (0, 7, ITEMS - 1):
        assert scorer.rank(query, np.array([row]), window)[0] == pytest.approx(together[row], abs=1e-4)


def test_items_that_follow_are_retrieved_before_items_that_do_not(scorer: Scorer) -> None:
    """In the small world item n is followed by item n + 1."""
    past = clicks([ItemId(f"i{10 + n}") for n in range(5)])
    following = [scorer.row(ItemId(f"i{item}")) for item in range(15, 19)]
    assert set(scorer.co_visited(Query(past, {}, NOW + 60_000), 12).rows.tolist()) >= set(following)
