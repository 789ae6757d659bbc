"""The report on a model: beside the champion and the baselines on one slice, in all and by part."""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.bootstrap import Mean
from models.metrics import Interval
from models.quality import Answer, Columns, by_user, differences, means
from models.slices import Slice
from models.time_split import Measured, TimeSplit
from streaming.errors import FlywheelError
from streaming.ids import UserId

_HEAD = 0.5  # of the events before the start, which the most used items share


class NobodyToAsk(FlywheelError):
    """The slice holds no user with an item that they had not seen before it."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One ranker: means over users by metric, the share of the catalogue that its first ten show, and our lead on it.

    `lead` is the reported model minus this ranker by metric, paired over users; empty for the model itself.
    """

    name: str
    users: int
    means: dict[str, Mean]
    coverage10: float
    lead: dict[str, Interval]


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """Some users, or the targets of all users among some items: each ranker's means by metric, by name."""

    name: str
    users: int
    rankers: dict[str, dict[str, Mean]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A model on the slice from `slice_start`, ms; `left_out` says by name who is not in the table and why."""

    model_version: str
    slice_start: int
    users: int
    catalogue: int
    rows: list[Row]
    parts: list[Part]
    left_out: dict[str, str]


def report_on(
    part: Slice, split: TimeSplit, measured: Sequence[Measured], left_out: Mapping[str, str], seed: int
) -> Report:
    """Compare the first of `measured`, the model, with the others; the split must have a question."""
    model = measured[0]
    return Report(
        model_version=model.name,
        slice_start=part.start,
        users=len(split.asked),
        catalogue=len(split.catalogue),
        rows=_rows(measured, seed),
        parts=list(_parts(split, measured, seed)),
        left_out=dict(left_out),
    )


def _rows(measured: Sequence[Measured], seed: int) -> list[Row]:
    model, *others = measured
    own = means(_named({one.name: one.columns for one in measured}), seed)
    leads = means(_named({one.name: differences(model.columns, one.columns) for one in others}), seed)
    return [
        Row(
            name=one.name,
            users=len(one.users),
            means=_of(own, one.name),
            coverage10=one.coverage10,
            lead={metric: Interval(lead.mean, lead.low, lead.high) for metric, lead in _of(leads, one.name).items()},
        )
        for one in measured
    ]


def _parts(split: TimeSplit, measured: Sequence[Measured], seed: int) -> Iterator[Part]:
    for name, kept in _targets_by_part(split):
        users = sum(targets.any() for targets in kept)
        if users:
            found = means(_named({one.name: by_user(_answers(one, kept)) for one in measured}), seed)
            yield Part(name=name, users=int(users), rankers={one.name: _of(found, one.name) for one in measured})


def _named(columns: Mapping[str, Columns]) -> dict[tuple[str, str], Mapping[UserId, float]]:
    return {(name, metric): values for name, own in columns.items() for metric, values in own.items()}


def _of(found: Mapping[tuple[str, str], Mean], name: str) -> dict[str, Mean]:
    return {metric: mean for (owner, metric), mean in found.items() if owner == name}


def _answers(one: Measured, kept: Sequence[NDArray[np.bool_]]) -> Iterator[tuple[UserId, Answer]]:
    for user_id, answer, targets in zip(one.users, one.answers, kept, strict=True):
        if targets.any():
            yield user_id, answer.only(targets)


def _targets_by_part(split: TimeSplit) -> Iterator[tuple[str, list[NDArray[np.bool_]]]]:
    """Yield the parts: of each question, in order, which of its targets belong there."""
    head = _head(split)
    in_head = [np.append(head[one.targets], np.zeros(one.missing, dtype=np.bool_)) for one in split.asked]
    yield "head items, half of the events", in_head
    yield "tail items", [~targets for targets in in_head]
    sizes = np.array([one.history for one in split.asked])
    middle = float(np.median(sizes[sizes > 0])) if sizes.any() else 0.0
    users = {
        "users without history": sizes == 0,
        f"users with up to {middle:g} events": (sizes > 0) & (sizes <= middle),
        f"users with more than {middle:g} events": sizes > middle,
    }
    for name, chosen in users.items():
        yield name, [np.full(len(one.new), own) for one, own in zip(split.asked, chosen, strict=True)]


def _head(split: TimeSplit) -> NDArray[np.bool_]:
    """Return which items are the most used ones that together have half of the events before the start."""
    order = np.argsort(-split.events, kind="stable")
    before = np.cumsum(split.shares[order]) - split.shares[order]
    head = np.zeros(len(order), dtype=np.bool_)
    head[order] = before < _HEAD
    return head & (split.events > 0)
