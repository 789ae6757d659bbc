import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.content import ItemContent, content_vectors, fit_content
from models.inputs import GAP_BUCKETS, category_buckets, gap_buckets, item_bucket, user_buckets
from models.tables import GrowingTable
from models.vocabulary import Vocabulary, hashed, in_natural_order
from streaming.ids import ItemId


def test_a_gap_is_the_time_to_the_next_second_with_an_event() -> None:
    times = np.array([0, 400, 1_000, 8_000, 8_900])
    # To second 1; the same; to second 8; twice to the asking at second 1,032.
    assert gap_buckets(times, 1_032_000).tolist() == [1, 1, 3, 10, 10]


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=20), st.integers(0, 10**13))
def test_gaps_are_buckets_whatever_the_times(times: list[int], as_of: int) -> None:
    buckets = gap_buckets(np.array(sorted(times), dtype=np.int64), as_of)
    assert ((buckets >= 0) & (buckets < GAP_BUCKETS)).all()


def test_a_hashed_value_has_the_same_row_in_every_release() -> None:
    """The rows are `printf 'user\\0age=20' | b2sum -l 64`, read from the little end, modulo 4,096."""
    assert [hashed("user", value, 4096) for value in ("age=20", "ж", "")] == [4022, 2065, 3194]


def test_tables_hash_the_same_value_differently() -> None:
    assert item_bucket("x", 10**9) != category_buckets(["x"], 10**9)[0]


def test_attributes_are_bags_of_names_and_values_with_numbers_by_tens() -> None:
    attributes = {"attributes": '{"age": 24.0, "job": "nurse", "none": null}'}
    assert user_buckets(attributes, 4096) == [hashed("user", token, 4096) for token in ("age=20", "job=nurse")]


@pytest.mark.parametrize("features", [{}, {"attributes": 3.0}, {"attributes": "no json"}, {"attributes": "[1]"}])
def test_a_user_without_attributes_has_an_empty_bag(features: dict[str, float | str]) -> None:
    assert user_buckets(features, 16) == []


def test_natural_order_is_the_order_of_numbers() -> None:
    assert in_natural_order([ItemId(item) for item in ("10", "9", "100", "9", "b")]) == ["9", "b", "10", "100"]


def test_a_vocabulary_keeps_rows_and_gives_new_ones() -> None:
    vocabulary = Vocabulary([ItemId("a"), ItemId("b")])
    assert (vocabulary.add(ItemId("b")), vocabulary.add(ItemId("c")), len(vocabulary)) == (1, 2, 3)
    assert [vocabulary.row(ItemId(item)) for item in "cd"] == [2, None]
    assert [vocabulary.item_id(vocabulary.add(ItemId(item))) for item in "ca"] == ["c", "a"]
    with pytest.raises(ValueError, match="twice"):
        Vocabulary([ItemId("a"), ItemId("a")])


def test_content_is_scaled_categories_and_standardised_numbers() -> None:
    items = [
        ItemContent(ItemId("a"), categories=["x", "y"], attributes={"year": 1990.0, "new": True, "tone": "dark"}),
        ItemContent(ItemId("b"), categories=["y"], attributes={"year": 2000.0}),
        ItemContent(ItemId("c"), attributes={"year": float("nan")}),
    ]
    spec = fit_content(items)
    assert (spec.categories, [number.name for number in spec.numbers]) == (("x", "y"), ["year"])
    half = 1 / np.sqrt(2)
    np.testing.assert_allclose(content_vectors(spec, items), [[half, half, -1], [0, 1, 1], [0, 0, 0]], rtol=1e-6)


def test_a_table_grows_without_touching_what_it_came_with() -> None:
    trained = np.arange(4.0).reshape(2, 2)
    trained.flags.writeable = False
    table = GrowingTable(trained)
    for row in range(2, 200):
        table.put(row, [row, -row])
    table.put(2, [7.0, 7.0])
    assert table.take(np.array([199, 1, 2])).tolist() == [[199, -199], [2, 3], [7, 7]]
    assert (len(table), len(table.trained), table.added.shape) == (200, 2, (198, 2))
    for refused in (1, 201):
        with pytest.raises(IndexError, match=f"row {refused}"):
            table.put(refused, [0.0, 0.0])
