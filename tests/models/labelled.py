"""Small made-up acts."""

import numpy as np

from models.act_features import act_features
from models.acts import Acts, HashedBags
from models.pairs import pairs_before
from models.pointwise_data import PointwiseData

CATEGORIES = 3


def acts(seed: int, count: int = 60, users: int = 5, items: int = 7) -> Acts:
    """Return random acts, several of them in one second."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(items, CATEGORIES + 1)).astype(np.float32)
    content[:, :CATEGORIES] = rng.random((items, CATEGORIES)) < 0.5
    values = rng.integers(1, 6, count).astype(np.float64)
    return Acts(
        users=rng.integers(0, users, count),
        items=rng.integers(0, items, count),
        times=np.sort(rng.integers(0, count // 2, count)) * 1000 + rng.integers(0, 1000, count),
        values=values,
        labels=(values >= 4).astype(np.float64),
        content=content,
        categories=CATEGORIES,
    )


def bags(users: int, items: int) -> HashedBags:
    """Return bags of one bucket each, the code itself."""
    ids = [[code] for code in range(max(users, items))]
    return HashedBags(ids[:items], [[] for _ in range(items)], ids[:users], ids[:users])


def data(acts: Acts, places: int) -> PointwiseData:
    """Return acts with everything that is known before them."""
    features = act_features(acts)
    users = int(acts.users.max()) + 1
    return PointwiseData(acts, features, pairs_before(acts, features.surprises, places), bags(users, len(acts.content)))


def two_camps(seed: int, users: int = 60, items: int = 30, each: int = 40) -> Acts:
    """Return acts whose label only the user's earlier acts on alike items tell.

    Each user likes the items of one of two camps and no other; nothing of an item says which camp it is of.
    """
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(users), each))
    item = rng.integers(0, items, len(user))
    liked = (rng.random(users) < 0.5)[user] == (item % 2 == 0)
    values = np.where(liked, 5.0, 1.0)
    times = np.arange(len(user)) * 1000
    return Acts(user, item, times, values, liked.astype(np.float64), np.zeros((items, 0), np.float32), 0)
