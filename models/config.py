"""Settings of training, of the models and of where their artifacts lie."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from streaming.errors import FlywheelError

StartFrom = Literal["auto", "champion", "scratch"]
EmbeddingOptimizer = Literal["rowwise_adagrad", "adam"]
ConversionName = Literal["like", "purchase"]
"""What can be predicted of a chosen item: a like, or a rating that counts as one; a purchase."""


class LayoutSettings(BaseModel):
    """How embedding tables are split over the processes of a training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sharding: Literal["auto", "table_wise", "column_wise", "row_wise"] = Field(
        "auto", description="how each embedding table is split over processes; auto = as the planner finds best"
    )
    columns: int = Field(16, ge=4, multiple_of=4, description="columns of each shard of a table split column_wise")


class RetrievalSettings(BaseModel):
    """The sequence model that finds candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    length: int = Field(50, ge=1, le=1_000, description="newest interactions of a history that the model reads")
    dim: int = Field(32, ge=4, multiple_of=4, description="width of embeddings and of the transformer")
    heads: int = Field(2, ge=1, description="attention heads; must divide dim")
    blocks: int = Field(1, ge=1, description="transformer blocks")
    dropout: float = Field(0.2, ge=0, lt=1, description="dropout in training")
    unknown_share: float = Field(0.15, ge=0, lt=1, description="share of item occurrences trained as an unknown item")
    epochs: int = Field(6, ge=1, description="passes over the histories before the ranker's slice")
    refit_epochs: int = Field(2, ge=1, description="further passes over all histories up to the cut")
    warm_epochs: int = Field(4, ge=1, description="passes instead of epochs when training starts from the champion")
    batch_size: int = Field(64, ge=1, description="windows of histories in a step, over all processes")
    learning_rate: float = Field(5e-3, gt=0, description="rate of the dense weights, Adam")
    embedding_learning_rate: float = Field(0.1, gt=0, description="rate of the embedding rows")
    embedding_optimizer: EmbeddingOptimizer = Field(
        "rowwise_adagrad",
        description="`rowwise_adagrad` on sharded tables, or `adam` on a copy in each process, for small catalogues",
    )
    second_moment: float = Field(0.999, gt=0, lt=1, description="decay of Adam's mean of squared gradients")
    input_scale: float = Field(1.0, gt=0, description="factor on item vectors in a history; SASRec has sqrt(dim)")
    weight_decay: float = Field(0.01, ge=0, description="weight decay of the dense weights")
    warmup_steps: int = Field(0, ge=0, description="steps over which the rates rise to their peak")
    average: float = Field(
        0.0, ge=0, lt=1, description="decay of the weights' running average that is served; 0 = none"
    )
    bfloat16: bool = Field(False, description="multiply matrices in bfloat16, where the CPU can; faster and coarser")
    full_softmax_items: int = Field(20_000, ge=1, description="largest catalogue whose softmax runs over every item")
    sampled_negatives: int = Field(1_000, ge=1, description="uniform negatives a step in a larger catalogue")
    mask_seen: bool = Field(
        False, description="train to choose among what a user had not met yet, where nothing is chosen twice"
    )
    augmentation: Literal["none", "crop", "mask", "reorder", "substitute"] = Field(
        "none", description="how the histories that the model reads in training are changed at random"
    )
    augmentation_strength: float = Field(0.2, gt=0, lt=1, description="share of a window's events that this changes")
    layout: LayoutSettings = LayoutSettings()

    @model_validator(mode="after")
    def _heads_divide_dim(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim, and {self.heads} does not divide {self.dim}")
        return self


class VocabularySettings(BaseModel):
    """Which items have a row of the sequence model's embedding table to themselves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    admit_at: int = Field(1, ge=1, description="interactions from which on an item gets an embedding row of its own")
    shared_rows: int = Field(1, ge=1, description="rows that all other items share, chosen by a hash of their ids")
    evict_after_days: int = Field(
        0, ge=0, description="days without an interaction after which an item loses its row; 0 = never"
    )
    most_items: int = Field(
        0, ge=0, description="most items with a row of their own; beyond it the rarest lose theirs; 0 = no limit"
    )


class TextSettings(BaseModel):
    """What the sequence model reads of items' titles and texts; encoding them needs the extra `text`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(False, description="read titles and texts in training; needs the extra `text`")
    width: int = Field(32, ge=1, le=384, description="principal directions that are kept of a text vector")
    cache: str | None = Field(None, description="folder of the texts that are already encoded; unset = in home")


class RankingSettings(BaseModel):
    """The model that orders candidates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(32, ge=1, description="width of the hidden layers")
    cross_layers: int = Field(1, ge=1, le=10, description="cross layers (DCN-v2)")
    attended_items: int = Field(
        20, ge=0, le=1_000, description="newest items of a history that a candidate is compared with; 0 = no attention"
    )
    attention_dim: int = Field(16, ge=1, description="width of the target attention over them")
    attention_dropout: float = Field(
        0.5, ge=0, lt=1, description="share of histories, places and numbers hidden from the attention in training"
    )
    conversions: tuple[ConversionName, ...] = Field(
        ("like", "purchase"),
        description="acts on chosen items that are predicted too, where the data have them; a JSON list",
    )
    like_value: float = Field(4.0, description="least value of a rating that counts as a like")
    conversion_weight: float = Field(0.2, gt=0, description="weight of a conversion's loss beside the choice's")
    calibration_share: float = Field(
        0.1, gt=0, lt=1, description="share of the newest labels that conversions are calibrated on, not trained on"
    )
    embedding_dim: int = Field(4, ge=4, multiple_of=4, description="width of a hashed feature's embedding")
    buckets: int = Field(4_096, ge=2, description="rows of each hashed embedding table")
    epochs: int = Field(4, ge=1, description="passes over the training groups")
    batch_size: int = Field(64, ge=1, description="groups in a step, over all processes")
    learning_rate: float = Field(5e-3, gt=0, description="rate of the dense weights, Adam")
    embedding_learning_rate: float = Field(
        3e-4, gt=0, description="rate of the embedding rows, row-wise Adagrad; small, or they learn the groups by heart"
    )
    weight_decay: float = Field(0.01, ge=0, description="weight decay of the dense weights")
    stale_share: float = Field(
        1.0, ge=0, le=1, description="share of groups that are trained once more with a history that ends earlier"
    )
    layout: LayoutSettings = LayoutSettings()


class GateSettings(BaseModel):
    """What a model must show before it becomes the champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance: float = Field(0.02, gt=0, lt=1, description="relative loss of NDCG@10 that the 95 % bound must exclude")
    users: int = Field(500, ge=1, description="fewest users of a comparison; fewer are insufficient data, not a pass")
    reference_every: int = Field(10, ge=1, description="promotions after which the frozen reference is replaced")
    coverage: float = Field(
        0.8, ge=0, le=1, description="least share of the champion's and the reference's coverage@10"
    )
    calibration: float = Field(
        0.05,
        gt=0,
        le=1,
        description="most that the expected calibration error of a conversion may exceed what chance would show",
    )


class ModelSettings(BaseModel):
    """How models are trained, and the object store that keeps them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    artifacts: str | None = Field(None, description="folder or fsspec URL of the model registry; unset = in home")
    threads: int = Field(1, ge=1, description="CPU threads of a training process; more pay only on idle cores")
    seed: int = Field(7, ge=0, description="seed of everything random in training")
    start_from: StartFrom = Field(
        "auto",
        description="weights to start from: `champion`, `scratch`, or `auto` = the champion where it fits",
    )
    neighbours: int = Field(50, ge=1, description="co-visited items kept per item")
    history_length: int = Field(200, ge=1, le=10_000, description="newest interactions that features are computed from")
    checkpoints: str | None = Field(
        None, description="folder of the checkpoints of training, shared by its processes; unset = in home"
    )
    checkpoint_steps: int = Field(0, ge=0, description="steps of a model between checkpoints; 0 = none")
    checkpoints_kept: int = Field(3, ge=1, description="newest checkpoints kept of each part of training")
    resume_hours: float = Field(
        12, ge=0, description="age of its cut up to which a training that was interrupted is gone on with, hours"
    )
    vocabulary: VocabularySettings = VocabularySettings()
    tensorboard: str | None = Field(None, description="folder of training's TensorBoard event files; unset = in home")
    norm_limit: float = Field(100.0, gt=0, description="length of an embedding row beyond which training warns of it")
    studies: str | None = Field(None, description="SQLite file of the trials of `flywheel tune`; unset = in home")
    retrieval: RetrievalSettings = RetrievalSettings()
    text: TextSettings = TextSettings()
    ranking: RankingSettings = RankingSettings()
    gate: GateSettings = GateSettings()

    def under(self, home: Path) -> Self:
        """Return these settings with every unset place put under `home`."""
        places = {
            "artifacts": self.artifacts or str((home / "models").absolute()),
            "checkpoints": self.checkpoints or str((home / "checkpoints").absolute()),
            "tensorboard": self.tensorboard or str((home / "tensorboard").absolute()),
            "studies": self.studies or str((home / "studies.sqlite").absolute()),
            "text": self.text.model_copy(update={"cache": self.text.cache or str((home / "texts").absolute())}),
        }
        return self.model_copy(update=places)


class TextsMissing(FlywheelError):
    """Nobody said where encoded texts are kept."""


class ArtifactsMissing(FlywheelError):
    """Nobody said where the model registry is."""


def texts_file(text: TextSettings, namespace: str) -> Path:
    """Return the namespace's file of encoded texts; raises TextsMissing when the composition root left it open."""
    if text.cache is None:
        raise TextsMissing("model.text.cache is not set: set FLYWHEEL_MODEL__TEXT__CACHE or give a home folder")
    return Path(text.cache) / f"{namespace}.safetensors"


def artifacts_url(model: ModelSettings) -> str:
    """Return the registry's address; raises ArtifactsMissing when the composition root left it open."""
    if model.artifacts is None:
        raise ArtifactsMissing("model.artifacts is not set: set FLYWHEEL_MODEL__ARTIFACTS or give a home folder")
    return model.artifacts
