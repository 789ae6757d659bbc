"""The index against exact search over the same vectors: items in groups, users between the items that they used."""

from dataclasses import dataclass

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import CorruptArtifact
from models.index import EXACT_UP_TO, GATE, GATE_K, BuiltIndex, VectorIndex, build_index
from models.tables import GrowingTable

SEED = 5
ITEMS, GROUPS, DIM = EXACT_UP_TO + 4_000, 120, 16


@dataclass(frozen=True)
class Large:
    """More items than are searched exactly, vectors of users' histories of three items, and the index."""

    vectors: np.ndarray
    users: np.ndarray
    built: BuiltIndex


@pytest.fixture(scope="module")
def large() -> Large:
    print("seed", SEED)  # noqa: T201
    rng = np.random.default_rng(SEED)
    group = rng.integers(0, GROUPS, ITEMS)
    centres = rng.normal(size=(GROUPS, DIM))
    vectors = (centres[group] + 0.5 * rng.normal(size=(ITEMS, DIM))).astype(np.float32)
    used = np.array([rng.choice(np.flatnonzero(group == one), 3) for one in rng.integers(0, GROUPS, 200)])
    users = vectors[used].mean(axis=1)
    return Large(vectors, users, build_index(vectors, users[:100]))


def exact(vectors: np.ndarray, query: np.ndarray, k: int) -> list[int]:
    return np.argsort(-(vectors @ query), kind="stable")[:k].tolist()


def index_of(vectors: np.ndarray, queries: np.ndarray | None = None) -> VectorIndex:
    nobody = np.zeros((0, vectors.shape[1]), dtype=np.float32)
    return VectorIndex(build_index(vectors, nobody if queries is None else queries).data, GrowingTable(vectors))


def recall(index: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> float:
    shares = [
        len({*index.search(query, GATE_K)[0].tolist()} & {*exact(vectors, query, GATE_K)}) / GATE_K for query in queries
    ]
    return float(np.mean(shares))


def test_a_large_catalogue_is_searched_by_lists_that_pass_the_gate(large: Large) -> None:
    index = VectorIndex(large.built.data, GrowingTable(large.vectors))
    inner = faiss.deserialize_index(np.frombuffer(large.built.data, dtype=np.uint8))
    assert isinstance(inner, faiss.IndexIVFScalarQuantizer)
    assert inner.nprobe < inner.nlist // 2
    measured = recall(index, large.vectors, large.users[:100])
    assert measured == pytest.approx(large.built.recall)
    assert measured >= GATE
    # Users whom the gate did not ask about find nearly as much.
    assert recall(index, large.vectors, large.users[100:]) >= GATE - 0.01


def test_one_probe_less_would_not_have_passed_the_gate(large: Large) -> None:
    inner = faiss.deserialize_index(np.frombuffer(large.built.data, dtype=np.uint8))
    assert inner.nprobe > 8
    inner.nprobe -= max(inner.nprobe // 4, 1)
    index = VectorIndex(bytes(faiss.serialize_index(inner)), GrowingTable(large.vectors))
    assert recall(index, large.vectors, large.users[:100]) < GATE


def test_where_lists_do_not_help_every_vector_is_searched() -> None:
    rng = np.random.default_rng(SEED)
    vectors = rng.normal(size=(EXACT_UP_TO + 1, 96)).astype(np.float32)
    queries = rng.normal(size=(20, 96)).astype(np.float32)
    built = build_index(vectors, queries)
    inner = faiss.deserialize_index(np.frombuffer(built.data, dtype=np.uint8))
    assert not isinstance(inner, faiss.IndexIVF)
    assert built.recall >= GATE
    assert recall(VectorIndex(built.data, GrowingTable(vectors)), vectors, queries) == pytest.approx(built.recall)


def test_without_users_to_ask_about_a_large_index_is_exact(large: Large) -> None:
    built = build_index(large.vectors, large.users[:0])
    assert built.recall == 1
    index = VectorIndex(built.data, GrowingTable(large.vectors))
    assert recall(index, large.vectors, large.users[:20]) == 1


def test_scores_are_dot_products_of_the_vectors_themselves_best_first(large: Large) -> None:
    index = VectorIndex(large.built.data, GrowingTable(large.vectors))
    for query in large.users[:20]:
        rows, scores = index.search(query, 50)
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, large.vectors[rows].astype(np.float64) @ query, rtol=1e-5, atol=1e-5)
        assert (np.diff(scores) <= 0).all()


def test_as_many_items_as_there_are_can_be_asked_for(large: Large) -> None:
    index = VectorIndex(large.built.data, GrowingTable(large.vectors))
    rows, _ = index.search(large.users[0], ITEMS + 7)
    assert sorted(rows.tolist()) == list(range(ITEMS))


def test_an_item_that_is_added_is_found_at_once(large: Large) -> None:
    table = GrowingTable(large.vectors)
    index = VectorIndex(large.built.data, table)
    table.put(ITEMS, 10 * large.users[0])
    rows, scores = index.search(large.users[0], 5)
    assert rows[0] == ITEMS
    assert scores[0] == pytest.approx(10 * float(large.users[0] @ large.users[0]), rel=1e-5)
    assert rows[1:].tolist() == exact(large.vectors, large.users[0], 4)


def test_the_same_input_gives_the_same_bytes(large: Large) -> None:
    assert build_index(large.vectors, large.users[:100]).data == large.built.data


@given(st.integers(1, 30), st.integers(0, 5), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_a_small_catalogue_is_searched_exactly_while_it_grows(items: int, added: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(items + added, 4)).astype(np.float32)
    query = rng.normal(size=4).astype(np.float32)
    table = GrowingTable(vectors[:items])
    index = VectorIndex(build_index(vectors[:items], query[None]).data, table)
    for row in range(items, items + added):
        table.put(row, vectors[row])
    rows, scores = index.search(query, k)
    assert rows.tolist() == exact(vectors, query, k)
    np.testing.assert_allclose(scores, vectors[rows] @ query, atol=1e-6)


def test_one_item_is_all_there_is_to_find() -> None:
    rows, scores = index_of(np.ones((1, 4), dtype=np.float32)).search(np.ones(4, dtype=np.float32), 200)
    assert (rows.tolist(), scores.tolist()) == ([0], [4.0])


@pytest.mark.parametrize("data", [b"", b"no index at all"])
def test_bytes_that_are_no_index_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptArtifact, match="none that faiss reads"):
        VectorIndex(data, GrowingTable(np.ones((1, 4), dtype=np.float32)))


def test_an_index_over_other_vectors_is_refused() -> None:
    data = build_index(np.ones((3, 4), dtype=np.float32), np.ones((1, 4), dtype=np.float32)).data
    with pytest.raises(CorruptArtifact, match="over 3 vectors of width 4"):
        VectorIndex(data, GrowingTable(np.ones((2, 4), dtype=np.float32)))
