"""Fitting the models: first what finds candidates, then the ranker on top of it, then the first stage on everything.

The ranker must not read scores of a first stage that has seen the answers. So the first stage is fitted on what came
before the ranker's groups, the ranker is trained on its scores, and then the first stage goes on with everything up to
the end: that is what is served, and what the spec calls a refit.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.checkpoints import Checkpoints, digest
from models.config import ModelSettings, RetrievalSettings, TextSettings
from models.content import content_vectors, fit_content
from models.covisits import fit_neighbours
from models.dataset import TrainingData
from models.embedding_vocabulary import EmbeddingVocabulary, Usage, next_vocabulary
from models.export import Fitted
from models.log import KINDS, Log
from models.progress import Progress, Report
from models.ranking_calibration import calibrated
from models.ranking_dataset import FirstStage, ranking_data
from models.ranking_features import feature_names
from models.ranking_training import train_ranker
from models.retrieval_training import RetrievalTrainer
from models.sharding import limited_threads, process_group
from models.spec import ContentSpec, Lineage, ModelSpec, NetworkSpec, RankingSpec, RetrievalSpec, TaskSpec
from models.start import Parent, Start
from models.warm_start import carried_content, carried_state

_REFIT_PEAK = 0.3  # of the learning rates: the weights are near where they should be


@dataclass
class Timer:
    """Seconds by part; the parts' progress goes on to `progress`."""

    progress: Progress
    clock: Callable[[], float] = time.monotonic
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def part(self, name: str) -> Iterator[Report]:
        """Time a part, which reports its steps to what this gives."""
        started = self.clock()
        yield partial(self.progress, name)
        self.seconds[name] = round(self.clock() - started, 3)


def fit(
    data: TrainingData,
    settings: ModelSettings,
    lineage: Lineage,
    timer: Timer,
    checkpoints: Checkpoints | None = None,
    parent: Parent | None = None,
) -> Fitted:
    """Fit all models on `data`; the same data, settings, parent and number of threads give the same weights.

    Runs on every process of the group that it joins, and gives each of them the whole result. With checkpoints it
    goes on where it was last saved on the same data; raises OtherRun when that was with other settings.
    With a parent, which must fit, its first stage starts from the parent's.
    """
    with process_group(), limited_threads(settings.threads):
        return _fit(data, settings, lineage, timer, checkpoints, parent)


def _fit(
    data: TrainingData,
    settings: ModelSettings,
    lineage: Lineage,
    timer: Timer,
    checkpoints: Checkpoints | None,
    parent: Parent | None,
) -> Fitted:
    content = _content(data, settings.text, parent)
    vectors = content_vectors(content, data.items)
    vocabulary = _vocabulary(data, settings, parent)
    rows = vocabulary.rows_of([item.item_id for item in data.items])
    trainer = RetrievalTrainer(settings.retrieval, vectors, settings.seed, rows, content.text_width)
    if parent:
        trainer.go_on_from(carried_state(parent, trainer.state(), vocabulary, content))
    before = data.log.before(data.groups_from)
    saved = checkpoints and checkpoints.of_data(_name(vectors, parent, before, data.log))
    epochs = settings.retrieval.warm_epochs if parent else settings.retrieval.epochs
    with timer.part("retrieval") as report:
        losses = trainer.train(before, epochs, 1.0, report, saved and saved.part("first"))
    start = Start(data.groups_from, vocabulary, trainer.state())
    with timer.part("ranking features"):
        stage = FirstStage(content, fit_neighbours(before, len(data.items), settings.neighbours), trainer.trained())
        queries = ranking_data(data, stage, settings)
    with timer.part("ranking") as report:
        kept = saved and saved.part("ranking")
        ranker, ranker_losses = train_ranker(settings.ranking, data.items, queries, settings.seed, report, kept)
    conversions = calibrated(ranker, queries, settings.ranking.buckets, settings.seed)
    with timer.part("retrieval refit") as report:
        losses += trainer.train(
            data.log, settings.retrieval.refit_epochs, _REFIT_PEAK, report, saved and saved.part("refit")
        )
    with timer.part("co-visits"):
        neighbours = fit_neighbours(data.log, len(data.items), settings.neighbours)
    retrieval = trainer.trained()
    return Fitted(
        spec=ModelSpec(
            trained_until=data.until,
            content=content,
            retrieval=_retrieval_spec(settings.retrieval),
            ranking=_ranking_spec(data, settings, feature_names(content), ranker.spec, conversions.tasks),
            lineage=lineage,
        ),
        neighbours=neighbours,
        retrieval=retrieval,
        start=start,
        ranker=ranker,
        metrics=_metrics(data, losses, ranker_losses)
        | queries.conversions.counts()
        | conversions.metrics
        | {"retrieval_norm_largest": float(retrieval.table.norm(dim=1).max())},
    )


def _content(data: TrainingData, text: TextSettings, parent: Parent | None) -> ContentSpec:
    content = fit_content(data.items, text.width if text.enabled else 0)
    return carried_content(content, parent.spec.content) if parent else content


def _vocabulary(data: TrainingData, settings: ModelSettings, parent: Parent | None) -> EmbeddingVocabulary:
    usage = Usage.of([item.item_id for item in data.items], data.log.rows, data.log.times)
    return next_vocabulary(parent.start.vocabulary if parent else None, usage, settings.vocabulary, data.until)


def _name(vectors: NDArray[np.float32], parent: Parent | None, *logs: Log) -> str:
    """Return a sum over what the sequence model is fitted on and started from."""
    return digest(
        parent.version if parent else "",
        vectors,
        *(column for log in logs for column in (log.rows, log.times, log.kinds, log.starts)),
    )


def _retrieval_spec(settings: RetrievalSettings) -> RetrievalSpec:
    return RetrievalSpec(length=settings.length, dim=settings.dim, kinds=KINDS, input_scale=settings.input_scale)


def _ranking_spec(
    data: TrainingData,
    settings: ModelSettings,
    features: tuple[str, ...],
    network: NetworkSpec,
    conversions: tuple[TaskSpec, ...],
) -> RankingSpec:
    return RankingSpec(
        features=features,
        history_length=settings.history_length,
        buckets=settings.ranking.buckets,
        embedding_dim=settings.ranking.embedding_dim,
        mean_value=data.fill_value,
        network=network,
        conversions=conversions,
        training_source=data.groups.source,
    )


def _metrics(data: TrainingData, retrieval: Sequence[float], ranker: Sequence[float]) -> dict[str, float]:
    return {
        "interactions": len(data.log.rows),
        "users": len(data.log.starts) - 1,
        "items": len(data.items),
        "groups": len(data.groups),
        "groups_shown": int(data.groups.shown.sum()),
        "retrieval_loss_first": retrieval[0],
        "retrieval_loss_last": retrieval[-1],
        "ranking_loss_first": ranker[0],
        "ranking_loss_last": ranker[-1],
    }
