"""Acts with a label: what the pointwise ranker and logistic regression learn from."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.content import ItemContent, content_vectors, fit_content
from models.inputs import USER_TABLE, category_buckets, item_bucket, user_buckets
from models.vocabulary import hashed
from streaming.dataset import DataSet, UserRecord
from streaming.errors import FlywheelError

Bags = Sequence[Sequence[int]]


class NotLabelled(FlywheelError):
    """Acts that have no value to make a label of."""


@dataclass(frozen=True)
class Acts:
    """One act a row, ascending in time: int64[n] `users` and `items` (codes), `times` (ms), float64[n] `values`.

    `labels`, float64[n], is 1 where an act shows that the item was wanted, else 0. `content` is float32[items, width]:
    one place per category, `categories` of them, then the standardised numbers.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    labels: NDArray[np.float64]
    content: NDArray[np.float32]
    categories: int


@dataclass(frozen=True)
class HashedBags:
    """The rows of hashed tables by code: of each item's id and categories, of each user's id and attributes."""

    item_ids: Bags
    categories: Bags
    user_ids: Bags
    users: Bags

    @classmethod
    def of(cls, data: DataSet, buckets: int) -> "HashedBags":
        """Hash the users and items of a data set into so many buckets a table."""
        ids = [[hashed(USER_TABLE, user.user_id, buckets)] for user in data.users]
        attributes = [_attribute_bag(user, buckets) for user in data.users]
        return cls(
            item_ids=[[item_bucket(item.item_id, buckets)] for item in data.items],
            categories=[category_buckets(item.categories, buckets) for item in data.items],
            user_ids=ids,
            users=[[*own, *others] for own, others in zip(ids, attributes, strict=True)],
        )


def labelled_acts(data: DataSet, wanted_from: float) -> Acts:
    """Return a data set's interactions with the label "value at or above `wanted_from`".

    Codes are places in `data.users` and `data.items`. Raises NotLabelled when an interaction has no finite value.
    """
    users = {user.user_id: code for code, user in enumerate(data.users)}
    items = {item.item_id: code for code, item in enumerate(data.items)}
    contents = [ItemContent(item.item_id, item.title, item.categories, item.attributes) for item in data.items]
    spec = fit_content(contents)
    values = np.array([np.nan if act.value is None else act.value for act in data.interactions], dtype=np.float64)
    if not np.isfinite(values).all():
        missing = data.interactions[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise NotLabelled(f"interaction {missing.number} has no finite value: give only those that have one")
    return Acts(
        users=np.array([users[act.user_id] for act in data.interactions], dtype=np.int64),
        items=np.array([items[act.item_id] for act in data.interactions], dtype=np.int64),
        times=np.array([act.time for act in data.interactions], dtype=np.int64),
        values=values,
        labels=(values >= wanted_from).astype(np.float64),
        content=content_vectors(spec, contents),
        categories=len(spec.categories),
    )


def _attribute_bag(user: UserRecord, buckets: int) -> list[int]:
    return user_buckets({"attributes": msgspec.json.encode(dict(user.attributes)).decode()}, buckets)
