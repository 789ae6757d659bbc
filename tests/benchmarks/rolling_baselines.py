"""The baselines of the rolling benchmark, asked what the pipeline is asked."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from rolling_data import Baselines, Values, values_of, world_at

from models.baselines import Baseline, DecayedPopularity, ItemKnn, Markov, Popularity, Product, RecentPopularity
from models.heldout import frozen_cases, prequential_groups
from services.demo.quality import live_answers
from services.demo.world import Replayed
from streaming.dataset import InteractionRecord

Train = Sequence[InteractionRecord]
Fit = Callable[[Train], Baseline]

DAYS = (7, 14, 30, 60)
HALF_LIVES = (7, 14, 30)


def measure(percent: int) -> Baselines:
    """Fit every baseline on the events up to the cut and ask it for the next 5 %."""
    world, started = world_at(percent), time.perf_counter()
    values = {name: _values(fit(world.train), world) for name, fit in candidates().items()}
    return Baselines(percent=percent, seconds=time.perf_counter() - started, values=values)


def candidates() -> dict[str, Fit]:
    """Return how each baseline is fitted, by name; those of one kind with another setting count as others."""
    popular: dict[str, Fit] = {"popularity": Popularity}
    popular |= {f"popularity_{days}d": partial(RecentPopularity, days=days) for days in DAYS}
    popular |= {decayed(days): partial(DecayedPopularity, half_life_days=days) for days in HALF_LIVES}
    products = {f"markov_x_sqrt_{name}": partial(_product, fit) for name, fit in popular.items()}
    return popular | {"item_knn": ItemKnn, "markov": Markov} | products


def decayed(half_life_days: int) -> str:
    """Return the name of the decayed popularity of a half-life."""
    return f"popularity_decayed_{half_life_days}d"


def _product(popularity: Fit, train: Train) -> Baseline:
    return Product(train, Markov(train), popularity(train))


def _values(ranker: Baseline, world: Replayed) -> Values:
    """Ask as of the cut first, since asking live feeds the ranker."""
    cases = frozen_cases(world.train, world.test)
    frozen = {case.user_id: ranker.answer(case.user_id, world.cut, 10) for case in cases}
    return values_of(world, frozen, live_answers(ranker, prequential_groups(world.test)))
