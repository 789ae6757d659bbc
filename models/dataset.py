"""The lake's tables as columns for training: the log of interactions, the items' content, the labelled groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.sampling import CLICK_WINDOW_MS, IMPRESSION
from models.columns import floats_of, millis_of, rows_of
from models.content import ItemContent
from models.groups import Groups, groups_of
from models.log import Log, kind_codes
from models.vocabulary import Vocabulary, in_natural_order
from streaming.errors import FlywheelError
from streaming.events import PROBE_SURFACE
from streaming.ids import ItemId


class NotEnoughData(FlywheelError):
    """There is too little in the lake to train on."""


@dataclass(frozen=True)
class ItemFeatures:
    """Feast's item features as of the end of training, float32[items] each."""

    interactions_total: NDArray[np.float32]
    mean_value: NDArray[np.float32]


@dataclass(frozen=True)
class TrainingData:
    """Everything a model is fitted on; items in the order of their rows."""

    items: Sequence[ItemContent]
    log: Log
    groups: Groups
    item_features: ItemFeatures
    fill_value: float
    until: int

    @property
    def groups_from(self) -> int:
        """When the first group was asked, ms: what the ranker reads must be fitted on what happened before."""
        return int(self.groups.times.min())


@dataclass(frozen=True)
class Tables:
    """The lake's tables as Arrow, and the time, ms, before which they count."""

    interactions: pa.Table
    items: pa.Table
    item_features: pa.Table
    examples: pa.Table
    until: int


def training_data(tables: Tables) -> TrainingData:
    """Turn the tables into columns. The vocabulary is every item with an interaction, in natural order.

    Groups count from the middle of the log on, since what the ranker reads must be fitted on what came before them.
    Raises NotEnoughData without interactions or without such groups, UnknownKind.
    """
    interactions = organic(tables.interactions, tables.until)
    vocabulary = Vocabulary(in_natural_order(interactions["item_id"].to_pylist()))
    if not len(vocabulary):
        raise NotEnoughData("there is no interaction to train on: send events and run `flywheel land` first")
    log, users = _log(interactions, vocabulary)
    middle = int(np.quantile(log.times, 0.5))
    at = millis_of(tables.examples["event_timestamp"])
    late = pc.and_(pc.greater(at, middle), _is_labelled(tables.examples, at, tables.until))
    values = interactions["value"].filter(pc.is_finite(interactions["value"]))
    fill = float(pc.mean(values).as_py()) if len(values) else 0.0
    groups = groups_of(_with_a_choice(tables.examples.filter(late)), vocabulary, users, fill)
    if not len(groups):
        raise NotEnoughData("there is no labelled example to train on: run `flywheel build-features` first")
    return TrainingData(
        items=_items(tables.items, vocabulary, tables.until),
        log=log,
        groups=groups,
        item_features=_item_features(tables.item_features, vocabulary, tables.until, fill),
        fill_value=fill,
        until=tables.until,
    )


def organic(interactions: pa.Table, until: int) -> pa.Table:
    """Return what happened before `until`, ms, without the events that probe freshness."""
    probes = pc.fill_null(pc.equal(interactions["surface"], PROBE_SURFACE), False)
    early = pc.less(millis_of(interactions["happened_at"]), until)
    return interactions.filter(pc.and_(pc.invert(probes), early))


def _with_a_choice(examples: pa.Table) -> pa.Table:
    """Return the groups of which something was chosen: of the others, most slates there are, nothing is learnt."""
    chosen = pc.unique(examples.filter(pc.greater(examples["label"], 0))["group_id"])
    return examples.filter(pc.is_in(examples["group_id"], value_set=chosen))


def _is_labelled(examples: pa.Table, at: pa.ChunkedArray, until: int) -> pa.ChunkedArray:
    """Return which examples' labels were known `until` then, ms: a slate's once the time for clicks on it was over."""
    over = pc.less_equal(pc.add(at, pa.scalar(CLICK_WINDOW_MS, pa.int64())), until)
    return pc.if_else(pc.equal(examples["sampling"], IMPRESSION), over, pc.less(at, until))


def _log(interactions: pa.Table, vocabulary: Vocabulary) -> tuple[Log, dict[str, int]]:
    guests = pc.binary_join_element_wise("session", interactions["session_id"], "\x1f")
    subjects = pc.coalesce(interactions["user_id"], guests).to_pylist()
    codes = {subject: code for code, subject in enumerate(sorted(set(subjects)))}
    users = np.array([codes[subject] for subject in subjects], dtype=np.int64)
    times = millis_of(interactions["happened_at"]).to_numpy()
    order = np.lexsort((interactions["event_id"].to_numpy(zero_copy_only=False).astype(str), times, users))
    log = Log(
        users=users[order],
        rows=rows_of(interactions["item_id"], vocabulary)[order],
        times=times[order],
        kinds=kind_codes(interactions["kind"].to_pylist())[order],
        starts=np.searchsorted(users[order], np.arange(len(codes) + 1)),
        values=pc.fill_null(interactions["value"].cast(pa.float64()), np.nan).to_numpy()[order],
    )
    return log, codes


def _items(items: pa.Table, vocabulary: Vocabulary, until: int) -> list[ItemContent]:
    """Return each item as its newest record before `until`, ms, has it, or else its first one: imports come late."""
    newest: dict[ItemId, ItemContent] = {}
    ordered = items.sort_by([("happened_at", "ascending"), ("event_id", "ascending")])
    columns = ["item_id", "title", "categories", "attributes", "text", "removed"]
    early = pc.less(millis_of(ordered["happened_at"]), until).to_pylist()
    for row, is_early in zip(ordered.select(columns).to_pylist(), early, strict=True):
        if not row["removed"] and (is_early or row["item_id"] not in newest):
            newest[row["item_id"]] = ItemContent(
                item_id=row["item_id"],
                title=row["title"] or "",
                categories=tuple(row["categories"] or ()),
                attributes=msgspec.json.decode(row["attributes"] or "{}", type=dict[str, str | float | bool]),
                text=row["text"] or "",
            )
    return [newest.get(item_id, ItemContent(item_id)) for item_id in vocabulary.item_ids]


def _item_features(table: pa.Table, vocabulary: Vocabulary, until: int, fill: float) -> ItemFeatures:
    table = table.filter(pc.less_equal(millis_of(table["event_timestamp"]), until)).sort_by("event_timestamp")
    rows = rows_of(table["item_id"], vocabulary)
    known = rows >= 0
    total = np.zeros(len(vocabulary), dtype=np.float32)
    value = np.full(len(vocabulary), fill, dtype=np.float32)
    # Of several assignments to one row the last one, the newest, holds.
    total[rows[known]] = floats_of(table["item_interactions_total"], 0.0)[known]
    value[rows[known]] = floats_of(table["item_mean_value"], fill)[known]
    return ItemFeatures(total, value)
