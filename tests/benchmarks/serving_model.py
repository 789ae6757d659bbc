"""A model of the real shapes for the serving benchmark, exported by the trainer's own code. Its weights are untrained.

What stands for trained weights is made up so that retrieval has something to find: an item's vector is its group's
direction with noise and a bias that grows with its use, and the tower's last layer passes its input on, so that a
user's vector points where the history lies. Neighbours are drawn around an item's group. How well it recommends means
nothing; what it costs is what a trained model of these shapes costs.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from serving_world import GROUP_SIZE, World

from models.artifact import write_artifact
from models.calibration import Calibrator
from models.config import ModelSettings
from models.content import ItemContent, fit_content
from models.dataset import ItemFeatures, TrainingData
from models.embedding_vocabulary import EmbeddingVocabulary
from models.export import Fitted, artifact_parts
from models.groups import Groups
from models.log import KINDS
from models.neighbours import FittedNeighbours
from models.ranking import PositionBias, RankingModel, TrainedRanker
from models.ranking_features import ACROSS, NEIGHBOUR_TABLES, STEPS, feature_names
from models.retrieval import RetrievalModel, Shape
from models.retrieval_training import TABLE_WEIGHT
from models.spec import ContentSpec, Lineage, ModelSpec, NetworkSpec, RankingSpec, RetrievalSpec, TaskSpec
from models.start import Start
from models.trained_retrieval import TrainedRetrieval
from models.trainer_state import TrainerState
from streaming.ids import ItemId

_CONVERSIONS = ("like", "purchase")
_AROUND = 500  # items around an item's group that its neighbours are drawn from


def write_model(folder: Path, world: World, settings: ModelSettings) -> str:
    """Write the artifact into an empty folder and return its version."""
    torch.manual_seed(world.spec.seed)
    data = _data(world)
    content = fit_content(data.items)
    retrieval = _retrieval(world, settings, content)
    ranker = _ranker(world, settings, content)
    vocabulary = EmbeddingVocabulary(tuple(world.item_ids), 1)
    state = TrainerState({TABLE_WEIGHT: retrieval.table}, torch.zeros(len(retrieval.table)))
    fitted = Fitted(
        spec=_spec(world, settings, content, ranker.spec),
        neighbours=_neighbours(world.spec.items, settings.neighbours, world.spec.seed),
        retrieval=retrieval,
        start=Start(world.spec.now, vocabulary, state),
        ranker=ranker,
        metrics={},
    )
    return write_artifact(folder, artifact_parts(fitted, data))


def group_vectors(items: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Return float32 [items, dim]: the group's direction, noise, and a bias by the place within the group."""
    rng = np.random.default_rng(seed)
    group, place = np.divmod(np.arange(items), GROUP_SIZE)
    centres = rng.standard_normal((group[-1] + 1, dim), dtype=np.float32)
    vectors = rng.standard_normal((items, dim), dtype=np.float32)
    vectors *= np.float32(0.7)
    vectors += centres[group]
    vectors[:, -1] = 2.0 - np.log(10.0 + place)
    return vectors


def _data(world: World) -> TrainingData:
    count = world.spec.items
    used = np.bincount(world.log.rows, minlength=count).astype(np.float32)
    nobody = np.zeros((0, 1), dtype=np.int64)
    none = nobody.astype(np.bool_)
    values = nobody.astype(np.float32)
    groups = Groups(nobody[:, 0], nobody[:, 0], nobody, none, none, none, nobody, values, values, (), ())
    return TrainingData(
        items=[ItemContent(ItemId(item.item_id), "", item.categories, item.attributes) for item in world.items()],
        log=world.log,
        groups=groups,
        item_features=ItemFeatures(used, np.full(count, 3.5, dtype=np.float32)),
        fill_value=3.5,
        until=world.spec.now,
    )


def _retrieval(world: World, settings: ModelSettings, content: ContentSpec) -> TrainedRetrieval:
    shape = Shape.of(settings.retrieval)
    model = RetrievalModel(shape, content.width).eval()
    with torch.no_grad():
        model.tower.out.weight.copy_(torch.eye(shape.dim)[:-1])
    items = group_vectors(world.spec.items, shape.dim, world.spec.seed)
    vectors = torch.from_numpy(np.concatenate((items, items.mean(axis=0, keepdims=True))))
    return TrainedRetrieval(model, vectors, vectors, shape.length)


def _ranker(world: World, settings: ModelSettings, content: ContentSpec) -> TrainedRanker:
    ranking = settings.ranking
    spec = NetworkSpec(
        features=len(feature_names(content)),
        embeddings=3 * ranking.embedding_dim,
        vectors=settings.retrieval.dim,
        places=ranking.attended_items,
        attention=ranking.attention_dim,
        cross_layers=ranking.cross_layers,
        hidden=ranking.hidden,
        conversions=len(_CONVERSIONS),
    )
    model = RankingModel(spec).eval()
    torch.nn.init.normal_(model.heads.weight, std=0.1)
    tables = [torch.randn(rows, width) for rows, width in _tables(world.spec.items, settings)]
    return TrainedRanker(spec, model, *tables, PositionBias().bias.detach())


def _tables(items: int, settings: ModelSettings) -> list[tuple[int, int]]:
    dim, buckets = settings.ranking.embedding_dim, settings.ranking.buckets
    return [(items, 2 * dim), (buckets, dim), (buckets, dim)]


def _neighbours(items: int, k: int, seed: int) -> dict[str, FittedNeighbours]:
    """Return tables whose rows are full, but for those of few steps: fewer items follow than are used alike."""
    rng = np.random.default_rng(seed)
    k = min(k, items, _AROUND)
    offsets = rng.permutation(_AROUND) - _AROUND // 2
    first = np.arange(items)[:, None] // GROUP_SIZE * GROUP_SIZE
    rows = ((first + offsets[(np.arange(k) + 7 * np.arange(items)[:, None]) % _AROUND]) % items).astype(np.int32)
    falling = (1.0 / np.arange(2, k + 2)).astype(np.float32)
    short = np.where(np.arange(k) < k // 3, falling, 0).astype(np.float32)
    full = FittedNeighbours(rows, np.tile(falling, (items, 1)))
    sparse = FittedNeighbours(rows, np.tile(short, (items, 1)))
    return {name: full if name not in (STEPS, ACROSS) else sparse for name in NEIGHBOUR_TABLES}


def _spec(world: World, settings: ModelSettings, content: ContentSpec, network: NetworkSpec) -> ModelSpec:
    tower, ranking = settings.retrieval, settings.ranking
    return ModelSpec(
        trained_until=world.spec.now,
        content=content,
        retrieval=RetrievalSpec(tower.length, tower.dim, KINDS, input_scale=tower.input_scale),
        ranking=RankingSpec(
            features=feature_names(content),
            history_length=settings.history_length,
            buckets=ranking.buckets,
            embedding_dim=ranking.embedding_dim,
            mean_value=3.5,
            network=network,
            conversions=tuple(TaskSpec(name, Calibrator(1.0, 0.0)) for name in _CONVERSIONS),
            training_source="nothing: untrained weights",
        ),
        lineage=Lineage({}, world.spec.seed, "benchmark"),
    )
