"""Each text is encoded once."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from models.config import ModelSettings, TextsMissing, texts_file
from models.content import ItemContent
from models.text_cache import TextCacheUnusable, with_text_vectors
from streaming.ids import ItemId

WIDTH = 4


class Letters:
    """A small encoder of its own: a text's vector is drawn from its digest. It notes what it was asked for."""

    width = WIDTH

    def __init__(self, name: str = "letters") -> None:
        self.name = name
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += texts
        rows = np.array([list(hashlib.sha256(text.encode()).digest()[:WIDTH]) for text in texts], dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def item(name: str, title: str = "", text: str = "") -> ItemContent:
    return ItemContent(ItemId(name), title=title, text=text)


ITEMS = [item("a", "Alien"), item("b", "Alien", "A ship."), item("c"), item("d", " "), item("e", text="A ship.")]


def test_a_text_is_title_and_text_and_an_item_without_either_has_no_vector(tmp_path: Path) -> None:
    encoder = Letters()
    found = with_text_vectors(ITEMS, encoder, tmp_path / "texts")
    assert encoder.asked == ["Alien", "Alien. A ship.", "A ship."]
    assert [one.text_vector is None for one in found] == [False, False, True, True, False]
    np.testing.assert_array_equal(found[1].text_vector, Letters().encode(["Alien. A ship."])[0])
    assert found == ITEMS  # but for the vectors, which do not count


def test_only_texts_that_are_new_are_encoded(tmp_path: Path) -> None:
    file, again = tmp_path / "deep" / "texts", Letters()
    first = with_text_vectors(ITEMS, Letters(), file)
    changed = [item("a", "Aliens"), *ITEMS[1:], item("f", "Alien")]
    second = with_text_vectors(changed, again, file)
    assert again.asked == ["Aliens"]
    for before, after in zip([*first[1:], first[0]], second[1:], strict=True):
        np.testing.assert_array_equal(before.text_vector, after.text_vector)
    assert [path.name for path in file.parent.iterdir()] == ["texts"]


def test_the_file_holds_the_texts_of_the_present_items_only(tmp_path: Path) -> None:
    with_text_vectors(ITEMS, Letters(), tmp_path / "texts")
    with_text_vectors(ITEMS[:1], Letters(), tmp_path / "texts")
    again = Letters()
    with_text_vectors(ITEMS, again, tmp_path / "texts")
    assert again.asked == ["Alien. A ship.", "A ship."]


def test_another_encoder_does_not_take_the_first_one_s_vectors(tmp_path: Path) -> None:
    other = Letters("other")
    with_text_vectors(ITEMS, Letters(), tmp_path / "texts")
    with_text_vectors(ITEMS, other, tmp_path / "texts")
    assert len(other.asked) == 3


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "texts").write_bytes(content)
    with pytest.raises(TextCacheUnusable, match=r"texts.*delete the file"):
        with_text_vectors(ITEMS, Letters(), tmp_path / "texts")


def test_no_items_need_no_file(tmp_path: Path) -> None:
    assert with_text_vectors([], Letters(), tmp_path / "texts") == []
    assert not (tmp_path / "texts").exists()


def test_texts_are_kept_under_home_by_namespace(tmp_path: Path) -> None:
    text = ModelSettings().under(tmp_path).text
    assert texts_file(text, "shop") == tmp_path / "texts" / "shop.safetensors"
    with pytest.raises(TextsMissing, match="FLYWHEEL_MODEL__TEXT__CACHE"):
        texts_file(ModelSettings().text, "shop")
