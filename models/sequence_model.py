"""The sequence model of retrieval on behaviour of which only the order is known: no kinds, no times, no content."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.config import RetrievalSettings
from models.inputs import gap_buckets
from models.log import KINDS, Log
from models.progress import Report
from models.retrieval_training import RetrievalTrainer
from models.sequences import Sequences
from models.sharding import limited_threads, process_group
from models.trained_retrieval import TrainedRetrieval
from streaming.events import Kind

_KIND = KINDS.index(Kind.VIEW.value)
_SECOND_MS = 1_000  # between any two events, since events of one second have no order


@dataclass(frozen=True)
class SequenceModel:
    """A trained model that scores the whole catalogue."""

    trained: TrainedRetrieval

    def scores(self, histories: Sequences) -> NDArray[np.float32]:
        """Return float32 [users, items]; the caller masks what is in the histories."""
        length = self.trained.length
        rows = np.full((histories.users, length), histories.items)
        sizes = np.minimum(histories.lengths(), length)
        for user, size in enumerate(sizes.tolist()):
            end = histories.starts[user + 1]
            rows[user, :size] = histories.rows[end - size : end]
        gap = gap_buckets(np.zeros(1, dtype=np.int64), _SECOND_MS)[0]
        kinds, gaps = np.full_like(rows, _KIND), np.full_like(rows, gap)
        users = self.trained.user_vectors(rows, kinds, gaps, np.maximum(sizes - 1, 0))
        catalogue: NDArray[np.float32] = self.trained.vectors[: histories.items].numpy()
        return users @ catalogue.T


def fit_sequence_model(
    sequences: Sequences, settings: RetrievalSettings, seed: int, threads: int, report: Report
) -> SequenceModel:
    """Train on the sequences for `settings.epochs`; `report` hears of every step."""
    content = np.zeros((sequences.items, 1), dtype=np.float32)
    with process_group(), limited_threads(threads):
        trainer = RetrievalTrainer(settings, content, seed)
        trainer.train(_log(sequences), settings.epochs, 1.0, report)
        return SequenceModel(trainer.trained())


def _log(sequences: Sequences) -> Log:
    lengths = sequences.lengths()
    places = np.arange(len(sequences.rows)) - np.repeat(sequences.starts[:-1], lengths)
    return Log(
        users=np.repeat(np.arange(sequences.users), lengths),
        rows=sequences.rows.astype(np.int64),
        times=places * _SECOND_MS,
        kinds=np.full(len(places), _KIND),
        starts=sequences.starts,
    )
