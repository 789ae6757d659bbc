"""A data set of behaviour, whatever it was read from: users, items and interactions in their original time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streaming.errors import FlywheelError
from streaming.events import Kind
from streaming.ids import ItemId, UserId

Attributes = Mapping[str, str | float | bool]


class DataSetMissing(FlywheelError):
    """The files of a data set are not on this machine."""


@dataclass(frozen=True, slots=True)
class UserRecord:
    """A user and what is known of them."""

    user_id: UserId
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class ItemRecord:
    """An item and its content."""

    item_id: ItemId
    title: str
    categories: Sequence[str]
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class InteractionRecord:
    """Something a user did; `time` is epoch milliseconds UTC, original. `number` is its place in the source."""

    number: int
    user_id: UserId
    item_id: ItemId
    kind: Kind
    value: float | None
    time: int


@dataclass(frozen=True)
class DataSet:
    """Users, items and interactions; interactions are sorted by (time, number)."""

    name: str
    users: Sequence[UserRecord]
    items: Sequence[ItemRecord]
    interactions: Sequence[InteractionRecord]

    def split(self, fraction: float) -> tuple[Sequence[InteractionRecord], Sequence[InteractionRecord]]:
        """Return the first `fraction` of the interactions by time, for training, and the later rest."""
        cut = int(len(self.interactions) * fraction)
        return self.interactions[:cut], self.interactions[cut:]
