"""Baselines on the slice on which models are evaluated, to stand beside them in every report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.baselines import Baseline, ItemKnn, Markov, Popularity, Product, RecentPopularity
from models.gate import Evaluated
from models.heldout import frozen_ndcg
from models.offline import Slice
from streaming.dataset import InteractionRecord

_K = 10
_DENSE_ITEMS = 5_000  # of which a square table still fits into memory

Fit = Callable[[Sequence[InteractionRecord]], Baseline]

_LISTS: dict[str, Fit] = {"popularity": Popularity, "popularity of 30 days": lambda train: RecentPopularity(train, 30)}
_TABLES: dict[str, Fit] = {
    "item-kNN": ItemKnn,
    "Markov chain by popularity": lambda train: Product(train, Markov(train), RecentPopularity(train, 30)),
}


@dataclass(frozen=True)
class Standing:
    """One ranker on the slice: NDCG@10 and the number of different items among the first ten, over `users`."""

    ranker: str
    role: str
    users: int
    ndcg10: float
    coverage10: int


def standing(role: str, measured: Evaluated) -> Standing:
    """Return where a model stands; it must have been asked about somebody."""
    values = list(measured.ndcg10.values())
    return Standing(measured.model_version, role, len(values), float(np.mean(values)), measured.coverage10)


def baseline_standings(part: Slice) -> list[Standing]:
    """Fit the baselines on what happened before the slice and ask them about its users, of whom there must be one.

    Those that keep a table of all pairs of items are left out of catalogues beyond 5,000 items.
    """
    train = part.interactions()
    items = len({event.item_id for event in train})
    chosen = _LISTS if items > _DENSE_ITEMS else _LISTS | _TABLES
    return [_measured(name, fit(train), part) for name, fit in chosen.items()] if train else []


def _measured(name: str, ranker: Baseline, part: Slice) -> Standing:
    answers = {}
    cases = part.cases()
    for case in cases:
        # What the user refused is seen as well, and no baseline was told of it.
        found = ranker.answer(case.user_id, part.start, _K + len(case.seen))
        answers[case.user_id] = [item for item in found if item not in case.seen][:_K]
    values = frozen_ndcg(cases, answers)
    shown = {item for answer in answers.values() for item in answer}
    return Standing(name, "baseline", len(cases), float(np.mean(values)), len(shown))
