"""Text vectors as a part of the content; how a model reads them is told in test_text_model.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.content import ItemContent, content_vectors, fit_content
from models.spec import TextSpec
from models.text import NoText, OtherTextVectors, fit_text, text_columns
from streaming.ids import ItemId

SEED, WIDE = 5, 12


def vectors(count: int, rank: int = WIDE) -> np.ndarray:
    rng = np.random.default_rng(SEED)
    rows = rng.normal(size=(count, rank)) @ rng.normal(size=(rank, WIDE))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_kept_directions_are_those_of_a_singular_value_decomposition() -> None:
    rows = vectors(50)
    columns = text_columns(fit_text(list(rows), 4), list(rows))
    left, sizes, _ = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    wanted = left[:, :4] * sizes[:4]
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    np.testing.assert_allclose(columns[:, 1:] @ columns[:, 1:].T, wanted @ wanted.T, atol=1e-4)
    assert columns.dtype == np.float32


def test_text_of_few_dimensions_loses_nothing_but_its_mean() -> None:
    rows = vectors(30, rank=3)
    columns = text_columns(fit_text(list(rows), WIDE), list(rows))[:, 1:]
    centred = rows - rows.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(columns @ columns.T, centred @ centred.T, atol=1e-4)


@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(1, 2 * WIDE))
def test_an_item_without_a_vector_has_zeros_and_the_others_length_one(there: list[bool], width: int) -> None:
    spec = fit_text(list(vectors(40)), width)
    rows = [row if has else None for row, has in zip(vectors(len(there)), there, strict=True)]
    columns = text_columns(spec, rows)
    assert columns.shape == (len(there), 1 + min(width, WIDE))
    np.testing.assert_array_equal(columns[:, 0], there)
    np.testing.assert_allclose(np.linalg.norm(columns[:, 1:], axis=1), there, atol=1e-4)


@given(st.permutations(range(6)))
def test_a_text_is_read_alike_alone_and_among_others(order: list[int]) -> None:
    spec, rows = fit_text(list(vectors(20)), 4), vectors(6)
    together = text_columns(spec, [rows[index] for index in order])
    for place, index in enumerate(order):
        np.testing.assert_allclose(text_columns(spec, [rows[index]])[0], together[place], atol=1e-6)


def test_fewer_texts_than_directions_give_fewer_directions() -> None:
    assert fit_text(list(vectors(3)), 8).width == 3


def test_a_text_that_is_the_mean_has_a_flag_and_no_direction() -> None:
    spec = fit_text([vectors(1)[0]], 4)
    assert text_columns(spec, [vectors(1)[0]]).tolist() == [[1.0, 0.0]]


def test_reading_text_where_there_is_none_is_refused() -> None:
    with pytest.raises(NoText, match="no item has a title or a text"):
        fit_text([None, None], 4)


def test_vectors_of_another_encoder_are_refused() -> None:
    spec = fit_text(list(vectors(20)), 4)
    with pytest.raises(OtherTextVectors, match=r"shape \(3,\).*reads \(12,\)"):
        text_columns(spec, [None, np.ones(3, dtype=np.float32)])


def test_text_comes_after_categories_and_numbers() -> None:
    rows = vectors(3)
    items = [
        ItemContent(ItemId(name), categories=["x"], attributes={"year": year}, text_vector=row)
        for name, year, row in zip("abc", (1.0, 2.0, 3.0), rows, strict=True)
    ]
    plain, spec = fit_content(items), fit_content(items, text_width=2)
    assert isinstance(spec.text, TextSpec)
    assert (plain.width, plain.text_width, spec.width, spec.text_width) == (2, 0, 5, 3)
    found = content_vectors(spec, items)
    np.testing.assert_array_equal(found[:, :2], content_vectors(plain, items))
    np.testing.assert_array_equal(found[:, 2:], text_columns(spec.text, list(rows)))
