"""What is served computes what was trained: ONNX against torch, alone and among batch-mates, for every length."""

from pathlib import Path

import numpy as np
import pytest
import small
import torch
from small import ITEMS, LENGTH, NOW

from features.history import History, HistoryEvent
from features.popularity import PopularityWindow
from models.artifact import Artifact
from models.content import ItemContent
from models.exact import exact_ranker
from models.export import Fitted
from models.inputs import category_buckets, gap_buckets, user_buckets
from models.log import KINDS
from models.scorer import Query, Scorer
from models.served import ServedRanker, Shown
from models.vocabulary import ItemRow
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


@pytest.mark.parametrize("batch", [1, 2, 33])
@pytest.mark.parametrize("length", [0, 1, 2, LENGTH - 1, LENGTH])
def test_every_task_of_the_ranker_is_that_of_torch(fitted: Fitted, artifact: Path, length: int, batch: int) -> None:
    """The network reads at most LENGTH places; what a longer history comes to is tested with the scorer."""
    served, exact = ServedRanker(opened := Artifact.open(artifact)), exact_ranker(opened)
    rng, spec = np.random.default_rng(small.SEED), fitted.spec.ranking.network
    rows = rng.integers(0, ITEMS, (batch, ITEMS))
    dense = rng.normal(size=(batch, ITEMS, spec.features)).astype(np.float32)
    vectors = fitted.retrieval.vectors.numpy()
    places = rng.integers(0, ITEMS, (batch, LENGTH))  # those of the batch-mates are all real
    attributes = {"attributes": '{"job": "nurse", "age": 31}'}
    found = served.logits(Shown(dense[0], rows[0], vectors[rows[0]], vectors[places[0, :length]]), attributes)
    present = np.arange(LENGTH) < np.array([length] + [LENGTH] * (batch - 1))[:, None]
    bags = [user_buckets(attributes, fitted.spec.ranking.buckets)] + [[1]] * (batch - 1)
    with torch.no_grad():
        expected = exact(
            torch.from_numpy(dense),
            fitted.ranker.embeddings(torch.from_numpy(rows), bags),
            torch.from_numpy(vectors[rows]),
            torch.from_numpy(vectors[places]),
            torch.from_numpy(present),
        )
    assert found.shape == (ITEMS, 1 + len(fitted.spec.ranking.conversions)) == (ITEMS, 2)
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("length", [1, LENGTH, LENGTH + 1])
def test_only_the_newest_known_items_are_attended(scorer: Scorer, length: int) -> None:
    """Two histories that differ before the newest LENGTH items alone are told apart by the dense features alone."""
    read = scorer._read(Query(history(length, unknown=True), {}, NOW + 60_000)).recent.newest(LENGTH)
    names = [f"i{(3 * number) % ITEMS}" for number in range(1, length)]  # the first one is unknown
    assert [scorer.item_id(row) for row in read.tolist()] == names[::-1][:LENGTH]


def test_a_history_of_unknown_items_is_ranked_by_finite_scores(scorer: Scorer) -> None:
    query = Query(clicks([ItemId("never"), ItemId("seen")]), {}, NOW + 60_000)
    assert np.isfinite(scorer.rank(query, np.arange(ITEMS), PopularityWindow(scorer.size), {"like": 1.0})).all()


def test_an_item_and_categories_that_training_never_saw_have_the_rows_that_training_would_have_read(
    fitted: Fitted, artifact: Path
) -> None:
    """The trainer trains a share of the candidates with an empty bag of the item table, which is what is served."""
    served = ServedRanker(Artifact.open(artifact))
    served.put(ItemRow(ITEMS), ItemContent(ItemId("fresh"), categories=["c1", "never seen"]))
    buckets, dim = fitted.spec.ranking.buckets, fitted.spec.ranking.embedding_dim
    bags = category_buckets(["c1", "never seen"], buckets)
    assert len(bags) == 2
    expected = np.concatenate((np.zeros(dim), fitted.ranker.categories[bags].sum(dim=0).numpy()))
    np.testing.assert_allclose(served._items.take(np.array([ITEMS]))[0], expected, atol=1e-6)


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


def test_nearest_items_are_those_of_the_cosines_of_all_vectors_without_bias(scorer: Scorer) -> None:
    added = scorer.add_item(ItemContent(ItemId("fresh"), "Fresh", ["c1"], {"year": 1999.0}))
    vectors = scorer._retrieval.vectors.take(np.arange(scorer.size))[:, :-1].astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for row in (0, 7, added):
        rows, cosines = scorer._retrieval.nearest(ItemRow(row), ITEMS + 1)
        assert sorted(rows.tolist()) == list(range(ITEMS + 1))
        np.testing.assert_allclose(cosines, (unit @ unit[row])[rows], atol=1e-5)
        assert (np.diff(cosines) <= 0).all()
