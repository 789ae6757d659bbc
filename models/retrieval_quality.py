"""How good the sequence model is alone, quickly: NDCG@10 of its nearest unseen items, before it is an artifact."""

from collections.abc import Iterator, Sequence

import numpy as np

from features.history import History, HistoryEvent, merge
from models.heldout import Case
from models.inputs import gap_buckets
from models.log import KINDS
from models.metrics import ndcg
from models.slices import Slice
from models.trained_retrieval import Read, TrainedRetrieval
from models.vocabulary import Vocabulary

_AT_ONCE = 256
_K = 10


def retrieval_ndcg10(trained: TrainedRetrieval, part: Slice, vocabulary: Vocabulary) -> float:
    """Return the mean NDCG@10 over the slice's users with a history, of whom there must be one.

    The items of the histories must be in the vocabulary that the model was trained with.
    """
    cases = [case for case in part.cases() if case.seen]
    values = [value for some in _batches(cases) for value in _values(trained, part, vocabulary, some)]
    return float(np.mean(values))


def _batches(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), _AT_ONCE):
        yield cases[start : start + _AT_ONCE]


def _values(trained: TrainedRetrieval, part: Slice, vocabulary: Vocabulary, cases: Sequence[Case]) -> Iterator[float]:
    histories = [merge(History(), part.users[case.user_id].events, trained.length).events for case in cases]
    items = trained.vectors[: len(vocabulary)].numpy()
    scores = trained.vectors_of([_read(events, vocabulary, part.start) for events in histories]) @ items.T
    for case, own in zip(cases, scores, strict=True):
        own[[row for item in case.seen if (row := vocabulary.row(item)) is not None]] = -np.inf
        best = np.argsort(-own, kind="stable")[:_K]
        yield ndcg([vocabulary.item_ids[row] for row in best], case.targets, _K)


def _read(events: Sequence[HistoryEvent], vocabulary: Vocabulary, as_of: int) -> Read:
    rows = [row for event in events if (row := vocabulary.row(event.item_id)) is not None]
    kinds = [KINDS.index(event.kind.value) for event in events]
    gaps = gap_buckets(np.array([event.happened_at for event in events]), as_of)
    return Read(np.array(rows, dtype=np.int64), np.array(kinds, dtype=np.int64), gaps)
