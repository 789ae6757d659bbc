"""A served model's quality on what the lake holds of a later time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.history import History, merge
from features.popularity import PopularityWindow
from models.gate import Evaluated
from models.scorer import Query, Scorer
from models.slices import Slice
from models.time_split import TimeSplit, ask
from streaming.ids import UserId


class ModelRanker:
    """The artifact's own scorer, the ranker on every item of the catalogue; new items get rows by their content."""

    def __init__(self, scorer: Scorer, part: Slice, split: TimeSplit) -> None:
        self._scorer, self._part = scorer, part
        self._rows = np.array([scorer.add_item(part.content(item)) for item in split.catalogue], dtype=np.int64)
        self._popularity = popularity_of(scorer, part)

    def scores(self, user_id: UserId) -> NDArray[np.floating[Any]]:
        """Return float32[catalogue]; without a history the count of the last 30 days."""
        return self._scorer.rank(query_of(self._part, user_id), self._rows, self._popularity)


def evaluate(scorer: Scorer, part: Slice) -> Evaluated:
    """Return NDCG@10 by user and how many items the first ten show."""
    split = TimeSplit.of(part)
    measured = ask(scorer.version, ModelRanker(scorer, part, split), split)
    return Evaluated(scorer.version, scorer.trained_until, measured.columns.get("ndcg10", {}), measured.shown10)


def query_of(part: Slice, user_id: UserId) -> Query:
    """Return what a request of the user at the start of the slice would come to."""
    events = part.users[user_id].events
    return Query(merge(History(), events, len(events)), part.features.get(user_id, {}), part.start)


def popularity_of(scorer: Scorer, part: Slice) -> PopularityWindow:
    """Return the popularity at the start of the slice, in the scorer's rows."""
    pairs = [(row, event.time) for event in part.training if (row := scorer.row(event.item_id)) is not None]
    window = PopularityWindow(scorer.size)
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    window.observe(table[:, 0], table[:, 1])
    return window
