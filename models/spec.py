"""What an artifact says about itself: everything the server must know to compute what the trainer computed."""

from typing import Literal

import msgspec

from models.calibration import Calibrator

FORMAT_VERSION = 5


class Number(msgspec.Struct, frozen=True):
    """A numeric item attribute and how it is standardised."""

    name: str
    mean: float
    deviation: float


class TextSpec(msgspec.Struct, frozen=True):
    """Which encoder made the text vectors, and how they are made narrower: the mean comes off, `directions` stay.

    Both are float32, little-endian: [encoder's width] and [encoder's width, width].
    """

    encoder: str
    width: int
    mean: bytes
    directions: bytes


class ContentSpec(msgspec.Struct, frozen=True):
    """How an item's content becomes a vector: one place per category, one per number, then the text.

    The text's part, where there is one, is a flag and a vector: both 0 for an item whose text vector is not there.
    """

    categories: tuple[str, ...]
    numbers: tuple[Number, ...]
    text: TextSpec | None = None

    @property
    def width(self) -> int:
        """The length of a content vector."""
        return len(self.categories) + len(self.numbers) + self.text_width

    @property
    def text_width(self) -> int:
        """The length of the text's part, which comes last; 0 when the model reads no text."""
        return 0 if self.text is None else 1 + self.text.width


class RetrievalSpec(msgspec.Struct, frozen=True):
    """The sequence model's contract: score = dot product, the item's bias being the last dimension of its vector."""

    length: int
    dim: int
    kinds: tuple[str, ...]
    score: Literal["dot"] = "dot"
    temperature: float = 1.0
    input_scale: float = 1.0


class NetworkSpec(msgspec.Struct, frozen=True):
    """The ranker's network: the widths of what it reads, and its layers.

    `places` is how many of a history's newest items a candidate is compared with, 0 = without target attention.
    """

    features: int
    embeddings: int
    vectors: int
    places: int
    attention: int
    cross_layers: int
    hidden: int
    conversions: int


class TaskSpec(msgspec.Struct, frozen=True):
    """An output of the ranker's network and how its logit becomes a probability."""

    name: str
    calibrator: Calibrator


class RankingSpec(msgspec.Struct, frozen=True):
    """The ranker's contract: the names of its dense inputs in order, its hashed embedding tables, its outputs.

    `mean_value` stands for the mean value of an item whose interactions had none. The first output is the choice, whose
    logit orders candidates and is no probability; `conversions` names the others: their probability is that of such an
    act once the user has chosen the item. Logits are those of an item shown at `position`, 0 = the top.
    `training_source` says in words what the ranker was trained on.
    """

    features: tuple[str, ...]
    history_length: int
    buckets: int
    embedding_dim: int
    mean_value: float
    network: NetworkSpec
    conversions: tuple[TaskSpec, ...]
    training_source: str
    position: Literal[0] = 0


class Lineage(msgspec.Struct, frozen=True):
    """Where a model comes from: the lake's snapshots by table (none without a lake), the seed, the code's version.

    `parent` is the model whose weights training started from, None when it started from scratch.
    """

    snapshots: dict[str, int]
    seed: int
    code_version: str
    parent: str | None = None


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The contract of one artifact; `trained_until` in ms UTC: no later event was used."""

    format_version: int = FORMAT_VERSION
    trained_until: int
    content: ContentSpec
    retrieval: RetrievalSpec
    ranking: RankingSpec
    lineage: Lineage
