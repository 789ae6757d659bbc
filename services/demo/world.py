"""What the demonstration replays: a data set, where it is cut, and for the simulated world the best possible ranker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.heldout import Group
from streaming.dataset import DataSet, InteractionRecord
from streaming.ids import ItemId, UserId
from streaming.movielens import load_movielens_100k
from streaming.synthetic import World, WorldSpec

_TRAIN_SHARE = 0.9

Probabilities = Callable[[UserId, Sequence[ItemId]], NDArray[np.float64]]


@dataclass(frozen=True)
class Replayed:
    """A data set split by time. `probabilities` tells the true next item, over `data.items`, where it is known."""

    data: DataSet
    train: Sequence[InteractionRecord]
    test: Sequence[InteractionRecord]
    probabilities: Probabilities | None = None

    @property
    def cut(self) -> int:
        """The moment (original ms) before which everything is known: that of the first held-out event."""
        return self.test[0].time

    def best_answers(self, groups: Sequence[Group], n: int) -> list[list[ItemId]] | None:
        """Return the true ranking before each group, from the catalogue of training; None where nobody knows it."""
        if self.probabilities is None:
            return None
        known = {event.item_id for event in self.train}
        open_items = np.array([item.item_id in known for item in self.data.items])
        history: dict[UserId, list[ItemId]] = {}
        for event in self.train:
            history.setdefault(event.user_id, []).append(event.item_id)
        answers = []
        for group in groups:
            past = history.setdefault(group.user_id, [])
            order = np.argsort(-(self.probabilities(group.user_id, past) * open_items), kind="stable")[:n]
            answers.append([self.data.items[number].item_id for number in order])
            past.extend(event.item_id for event in group.events)
        return answers


def load_world(name: str) -> Replayed:
    """Return the data set called `name`, movielens or synthetic; raises DataSetMissing."""
    if name == "synthetic":
        world = World(WorldSpec())
        return _split(world.data, world.probabilities)
    return _split(load_movielens_100k(), None)


def _split(data: DataSet, probabilities: Probabilities | None) -> Replayed:
    train, test = data.split(_TRAIN_SHARE)
    return Replayed(data, train, test, probabilities)
