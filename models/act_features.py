"""The dense features of an act as of the moment before it: what the user, the item and everybody did until then."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.acts import Acts
from models.past import Past

Floats = NDArray[np.float64]

_RECENT, _RECENT_OF_USER, _RECENT_OF_ITEM = 2_000, 10, 20  # acts
_WEAK, _MIDDLE, _STRONG = 1.5, 5.0, 20.0  # acts that a prior counts for


@dataclass(frozen=True)
class ActFeatures:
    """`dense` is float32[n, features]; `surprises`, float64[n], is each label less what was expected before the act."""

    names: tuple[str, ...]
    dense: NDArray[np.float32]
    surprises: Floats


def act_features(acts: Acts) -> ActFeatures:
    """Return the features of every act, each from acts in earlier seconds alone; all of them are finite.

    Rates are logits of means that are smoothed towards everybody's rate of late, as rates drift.
    """
    everybody = Past(np.zeros_like(acts.users), acts.times)
    user, item = Past(acts.users, acts.times), Past(acts.items, acts.times)
    rate = _smooth(everybody.total(acts.labels), everybody.count, 0.5, 10)
    recent = _smooth(everybody.total(acts.labels, _RECENT), np.minimum(everybody.count, _RECENT), 0.5, 10)
    of_user = _smooth(user.total(acts.labels), user.count, recent, _MIDDLE)
    of_item = _smooth(item.total(acts.labels), item.count, rate, _MIDDLE)
    surprises = acts.labels - _expected(of_user, of_item, rate)
    columns = {"rate": _logit(rate), "rate_recent": _logit(recent)}
    columns |= _rates("user", user, acts, recent, _RECENT_OF_USER)
    columns |= _rates("item", item, acts, rate, _RECENT_OF_ITEM)
    columns |= _values(user, item, everybody, acts.values)
    columns["user_above_items"] = _smooth(user.total(acts.labels - of_item), user.count, 0.0, _MIDDLE)
    columns["item_above_users"] = _smooth(item.total(acts.labels - of_user), item.count, 0.0, _MIDDLE)
    columns["user_surprise_recent"] = _smooth(
        user.total(surprises, _RECENT_OF_USER), np.minimum(user.count, _RECENT_OF_USER), 0.0, 3.0
    )
    columns["popular_taste"] = _smooth(user.total(np.log1p(item.count)), user.count, np.log1p(item.count), 1.0) - (
        np.log1p(item.count)
    )
    columns |= _times(user, item, acts) | _categories(acts, surprises)
    columns |= {f"number_{n}": values for n, values in enumerate(acts.content[acts.items][:, acts.categories :].T)}
    return ActFeatures(tuple(columns), np.column_stack(list(columns.values())).astype(np.float32), surprises)


def _rates(name: str, past: Past, acts: Acts, prior: Floats, newest: int) -> dict[str, Floats]:
    """Return the label's rate, smoothed at three strengths and of late, and how many acts it is of."""
    total = past.total(acts.labels)
    rates = {
        f"{name}_rate_{label}": _logit(_smooth(total, past.count, prior, strength))
        for label, strength in (("weak", _WEAK), ("middle", _MIDDLE), ("strong", _STRONG))
    }
    late = _smooth(past.total(acts.labels, newest), np.minimum(past.count, newest), prior, 2.0)
    counts = {f"{name}_acts": np.log1p(past.count), f"{name}_new": (past.count == 0).astype(np.float64)}
    return rates | {f"{name}_rate_recent": _logit(late)} | counts


def _values(user: Past, item: Past, everybody: Past, values: Floats) -> dict[str, Floats]:
    mean = everybody.total(values) / np.maximum(everybody.count, 1)
    square = everybody.total(values**2) / np.maximum(everybody.count, 1)
    of_user = _smooth(user.total(values), user.count, mean, 3.0)
    spread = _smooth(user.total(values**2), user.count, square, 3.0) - of_user**2
    return {
        "user_value": of_user,
        "item_value": _smooth(item.total(values), item.count, mean, 3.0),
        "user_value_deviation": np.sqrt(np.maximum(spread, 0.0)),
    }


def _times(user: Past, item: Past, acts: Acts) -> dict[str, Floats]:
    def since(events: NDArray[np.int64]) -> Floats:
        gap = np.log1p((acts.times - acts.times[np.maximum(events, 0)]) / 1000)
        return np.where(events >= 0, gap, 0.0)

    return {
        "user_gap": since(user.newest(1)[:, 0]),
        "user_age": since(user.first()),
        "item_gap": since(item.newest(1)[:, 0]),
    }


def _categories(acts: Acts, surprises: Floats) -> dict[str, Floats]:
    """Return the user's mean surprise in the item's categories: the mean, highest and lowest of them; 0 without any."""
    owner, category = np.nonzero(acts.content[acts.items][:, : acts.categories])
    past = Past(acts.users[owner] * acts.categories + category, acts.times[owner])
    means = _smooth(past.total(surprises[owner]), past.count, 0.0, 4.0)
    first = np.flatnonzero(np.append(True, owner[1:] != owner[:-1])[: len(owner)])
    sizes = np.diff(np.append(first, len(owner)))

    def by_act(values: Floats) -> Floats:
        column = np.zeros(len(acts.users))
        column[owner[first]] = values
        return column

    if not len(owner):
        return {name: np.zeros(len(acts.users)) for name in _OF_CATEGORIES}
    found = (
        by_act(np.add.reduceat(means, first) / sizes),
        by_act(np.maximum.reduceat(means, first)),
        by_act(np.minimum.reduceat(means, first)),
        by_act(np.add.reduceat(np.log1p(past.count), first) / sizes),
    )
    return dict(zip(_OF_CATEGORIES, found, strict=True))


_OF_CATEGORIES = ("category_mean", "category_highest", "category_lowest", "category_acts")


def _smooth(total: Floats, count: NDArray[np.int64], prior: Floats | float, strength: float) -> Floats:
    smoothed: Floats = (total + strength * prior) / (count + strength)
    return smoothed


def _expected(of_user: Floats, of_item: Floats, rate: Floats) -> Floats:
    logit = _logit(of_user) + _logit(of_item) - _logit(rate)
    expected: Floats = np.exp(-np.logaddexp(0.0, -logit))
    return expected


def _logit(rate: Floats) -> Floats:
    logit: Floats = np.log(rate) - np.log1p(-rate)
    return logit
