"""Replaying a data set as if it had just happened: every time is moved by one constant of whole weeks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from streaming.dataset import DataSet, InteractionRecord
from streaming.events import Interaction, ItemUpserted, UserUpserted

_WEEK_MS = 7 * 24 * 3_600_000
PRODUCER = "replay"


@dataclass(frozen=True)
class Shift:
    """The constant that is added to every original time, in milliseconds; a multiple of a week."""

    milliseconds: int

    @classmethod
    def before(cls, cut: int, now: int) -> "Shift":
        """Return the shift that moves `cut` (ms) to less than one week before `now` (ms)."""
        return cls((now - cut) // _WEEK_MS * _WEEK_MS)

    def __call__(self, time: int) -> int:
        """Return the moved time, ms."""
        return time + self.milliseconds


@dataclass(frozen=True)
class Replay:
    """A data set, how its times move, and when this is done (ms)."""

    data: DataSet
    shift: Shift
    now: int

    def catalogue(self, interactions: Sequence[InteractionRecord]) -> Iterator[ItemUpserted]:
        """Yield the items that occur in `interactions`, as of the data set's first interaction."""
        occurring = {interaction.item_id for interaction in interactions}
        start = self.data.interactions[0].time
        for item in self.data.items:
            if item.item_id in occurring:
                yield ItemUpserted(
                    event_id=f"{self.data.name}-item-{item.item_id}",
                    happened_at=self.shift(start),
                    received_at=self.now,
                    producer=PRODUCER,
                    source_time=start,
                    item_id=item.item_id,
                    title=item.title,
                    categories=list(item.categories),
                    attributes=dict(item.attributes),
                )

    def users(self, interactions: Sequence[InteractionRecord]) -> Iterator[UserUpserted]:
        """Yield the users that occur in `interactions`, as of the data set's first interaction."""
        occurring = {interaction.user_id for interaction in interactions}
        start = self.data.interactions[0].time
        for user in self.data.users:
            if user.user_id in occurring:
                yield UserUpserted(
                    event_id=f"{self.data.name}-user-{user.user_id}",
                    happened_at=self.shift(start),
                    received_at=self.now,
                    producer=PRODUCER,
                    source_time=start,
                    user_id=user.user_id,
                    attributes=dict(user.attributes),
                )

    def interactions(self, interactions: Sequence[InteractionRecord]) -> Iterator[Interaction]:
        """Yield `interactions` as events; the same record always gets the same event id."""
        for record in interactions:
            yield Interaction(
                event_id=f"{self.data.name}-{record.number}",
                happened_at=self.shift(record.time),
                received_at=self.now,
                producer=PRODUCER,
                source_time=record.time,
                item_id=record.item_id,
                kind=record.kind,
                user_id=record.user_id,
                value=record.value,
            )
