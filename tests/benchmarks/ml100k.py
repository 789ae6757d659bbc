"""MovieLens-100K as a log for the sequence model, some items held back until a cut, and what was asked after it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from models.config import RetrievalSettings
from models.content import ItemContent
from models.inputs import gap_buckets
from models.log import KINDS, Log
from models.metrics import ndcg
from models.retrieval_training import RetrievalTrainer, TrainedRetrieval
from models.sharding import limited_threads, process_group
from models.vocabulary import in_natural_order
from streaming.dataset import DataSet

_ASKS_AT_ONCE = 256


@dataclass(frozen=True)
class Split:
    """What is known and what comes later.

    `items` are in the order of their rows: first the `known` ones, which training has events of, then those that come
    only after the cut. `log` is all of it, without the earlier events of items that were held back; `cut` and `end`
    in ms.
    """

    items: Sequence[ItemContent]
    known: int
    log: Log
    cut: int
    end: int

    @property
    def training(self) -> Log:
        """What happened before the cut."""
        return self.log.before(self.cut)


@dataclass(frozen=True)
class Content:
    """The content vectors of all items, float32[items, width]; the last `text_width` columns are text."""

    vectors: NDArray[np.float32]
    text_width: int = 0


@dataclass(frozen=True)
class Question:
    """Which items one user came to within one second, given what the log holds of them before it."""

    user: int
    history: slice
    time: int
    targets: NDArray[np.int64]


def split(data: DataSet, cut: float, end: float, held_back: float, seed: int) -> Split:
    """Cut the events at the shares `cut` and `end`; a random share `held_back` of the items comes only after `cut`."""
    events = [data.interactions[int(len(data.interactions) * share) - 1].time // 1000 * 1000 for share in (cut, end)]
    rng = np.random.default_rng(seed)
    names = in_natural_order(item.item_id for item in data.items)
    chosen = set(rng.permutation(names)[: int(len(names) * held_back)].tolist())
    kept = [event for event in data.interactions if event.time >= events[0] or event.item_id not in chosen]
    before = {event.item_id for event in kept if event.time < events[0]}
    order = [name for name in names if name in before] + [name for name in names if name not in before]
    rows = {name: row for row, name in enumerate(order)}
    users = {name: code for code, name in enumerate(sorted({event.user_id for event in data.interactions}))}
    kept.sort(key=lambda event: (users[event.user_id], event.time, event.number))
    codes = np.array([users[event.user_id] for event in kept], dtype=np.int64)
    kinds = {kind: code for code, kind in enumerate(KINDS)}
    log = Log(
        users=codes,
        rows=np.array([rows[event.item_id] for event in kept], dtype=np.int64),
        times=np.array([event.time for event in kept], dtype=np.int64),
        kinds=np.array([kinds[event.kind.value] for event in kept], dtype=np.int64),
        starts=np.searchsorted(codes, np.arange(len(users) + 1)),
    )
    by_name = {item.item_id: item for item in data.items}
    items = [
        ItemContent(name, by_name[name].title, by_name[name].categories, by_name[name].attributes) for name in order
    ]
    return Split(items, len(before), log, *events)


def questions(part: Split, first_target: int = 0) -> list[Question]:
    """Return what is asked between the cut and the end: each second of a user with a history and a target.

    Targets are items that the user has not come to before, from row `first_target` on.
    """
    asked = []
    log = part.log
    for user in range(len(log.starts) - 1):
        begin, stop = int(log.starts[user]), int(log.starts[user + 1])
        times = log.times[begin:stop]
        later = times[(times >= part.cut) & (times < part.end)]
        for second in np.unique(later // 1000).tolist():
            first, last = begin + np.searchsorted(times, [second * 1000, second * 1000 + 1000])
            targets = np.setdiff1d(log.rows[first:last], log.rows[begin:first])
            targets = targets[targets >= first_target]
            if first > begin and len(targets):
                asked.append(Question(user, slice(begin, int(first)), second * 1000, targets))
    return asked


def trained(part: Split, content: Content, settings: RetrievalSettings, seed: int) -> TrainedRetrieval:
    """Train on what came before the cut; new items get their vectors as the server makes them, from their content."""
    with process_group(), limited_threads(1):
        trainer = RetrievalTrainer(settings, content.vectors[: part.known], seed, text_width=content.text_width)
        trainer.train(part.training, settings.epochs, 1.0, lambda _share: None)
        model = trainer.trained()
    known, unknown = model.vectors[:-1], model.vectors[-1:]
    with torch.no_grad():
        new = unknown + model.model.content(torch.from_numpy(content.vectors[part.known :]))
    return replace(model, vectors=torch.cat((known, new, unknown)))


def scores(model: TrainedRetrieval, log: Log, asked: Sequence[Question]) -> Iterator[NDArray[np.float32]]:
    """Yield for each question float32[items]; what the history holds is NaN."""
    vectors = model.vectors[:-1].numpy()
    for start in range(0, len(asked), _ASKS_AT_ONCE):
        some = asked[start : start + _ASKS_AT_ONCE]
        for question, user in zip(some, _users(model, log, some), strict=True):
            scored = vectors @ user
            scored[log.rows[question.history]] = np.nan
            yield scored


def gain(scored: NDArray[np.float32], question: Question) -> float:
    """Return NDCG@10 of the targets in the order of the scores."""
    return ndcg(np.argsort(-scored, kind="stable")[:10].tolist(), question.targets.tolist(), 10)


def by_user(asked: Sequence[Question], figures: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each column over the questions of each user, a row for each."""
    return figures.groupby(pd.Index([question.user for question in asked], name="user")).mean()


def _users(model: TrainedRetrieval, log: Log, asked: Sequence[Question]) -> NDArray[np.float32]:
    rows = np.full((len(asked), model.length), len(model.vectors) - 1)
    kinds, gaps = np.zeros_like(rows), np.zeros_like(rows)
    last = np.zeros(len(asked), dtype=np.int64)
    for number, question in enumerate(asked):
        read = slice(max(question.history.start, question.history.stop - model.length), question.history.stop)
        last[number] = read.stop - read.start - 1
        rows[number, : last[number] + 1] = log.rows[read]
        kinds[number, : last[number] + 1] = log.kinds[read]
        gaps[number, : last[number] + 1] = gap_buckets(log.times[read], question.time)
    return model.user_vectors(rows, kinds, gaps, last)
