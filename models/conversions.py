"""What users did with what they chose: the labels of the ranker's further tasks. Numpy only.

A conversion is conditional on the choice (X. Ma et al., Entire space multi-task model, SIGIR 2018, write the same
product): its examples are the chosen candidates, so its probability does not depend on how negatives were sampled.
"""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from models.config import RankingSettings
from models.dataset import TrainingData
from models.groups import Groups
from models.log import KINDS, Log
from streaming.events import Kind

_WINDOWS_MS = MappingProxyType({Kind.LIKE.value: 30 * 60_000, Kind.PURCHASE.value: 7 * 86_400_000})


@dataclass(frozen=True)
class Conversions:
    """The labels of tasks by `names`, bool [groups, candidates, tasks].

    `known` says which count: chosen candidates whose window closed before the end of the data. Of those `held_out` are
    the newest, kept for calibration.
    """

    names: tuple[str, ...]
    labels: NDArray[np.bool_]
    known: NDArray[np.bool_]
    held_out: NDArray[np.bool_]

    def counts(self) -> dict[str, float]:
        """Return by name of a metric how many labels each task has and what share of them says yes."""
        found: dict[str, float] = {}
        for number, name in enumerate(self.names):
            labels = self.labels[..., number][self.known[..., number]]
            found |= {f"{name}_labels": len(labels), f"{name}_rate": float(labels.mean())}
        return found


def conversions_of(data: TrainingData, asked: NDArray[np.bool_], settings: RankingSettings) -> Conversions:
    """Return the labels of the tasks of `settings` that the groups that are `asked`, bool [groups], have yes and no of.

    A yes is such an act on the item from the second of asking on within the task's window (like 30 minutes, purchase 7
    days), which must have closed when the data end.
    """
    log, groups = data.log, data.groups
    shape = (*groups.labels.shape, len(settings.conversions))
    labels, known, held_out = (np.zeros(shape, dtype=np.bool_) for _ in range(3))
    for number, name in enumerate(settings.conversions):
        closed = asked & (groups.times + _WINDOWS_MS[name] <= data.until)
        labels[..., number] = _labels(log, groups, _wanted(log, name, settings.like_value), _WINDOWS_MS[name])
        known[..., number] = groups.labels & groups.present & closed[:, None]
        held_out[..., number] = _newest(known[..., number], settings.calibration_share)
    trained = known & ~held_out
    kept = (trained & labels).any(axis=(0, 1)) & (trained & ~labels).any(axis=(0, 1))
    names = tuple(np.array(settings.conversions)[kept].tolist())
    return Conversions(names, labels[..., kept], known[..., kept], held_out[..., kept])


def _wanted(log: Log, name: str, like_value: float) -> NDArray[np.bool_]:
    """Return which events are such an act; a rating high enough is a like."""
    wanted: NDArray[np.bool_] = log.kinds == KINDS.index(name)
    if name == Kind.LIKE and log.values is not None:
        wanted = wanted | ((log.kinds == KINDS.index(Kind.RATING)) & (log.values >= like_value))
    return wanted


def _labels(log: Log, groups: Groups, wanted: NDArray[np.bool_], window: int) -> NDArray[np.bool_]:
    labels = np.zeros_like(groups.labels)
    for own, rows, user, time in zip(labels, groups.rows, groups.users, groups.times, strict=True):
        events = log.between(int(user), int(time), int(time) + window)
        own[:] = np.isin(rows, log.rows[events][wanted[events]])
    return labels


def _newest(known: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Return the newest `share` of what is known, at least one, with all that is known of their groups."""
    groups = np.flatnonzero(known.any(axis=1))
    first = len(groups) - max(1, round(share * len(groups)))
    newest = known.copy()
    newest[: groups[first] if len(groups) else 0] = False
    return newest
