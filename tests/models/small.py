"""A small world as the lake's tables, and training on it in processes that tests start."""

import json

import numpy as np
import pyarrow as pa
import torch
from torch import distributed

from models.config import ModelSettings, RankingSettings, RetrievalSettings
from models.dataset import Tables, TrainingData, training_data
from models.fitting import Timer, fit
from models.spec import Lineage

SEED, ITEMS, USERS, EVENTS = 11, 40, 24, 20
NOW, DAY_MS = 1_790_000_000_000, 86_400_000
LENGTH = 8
_STAMP = pa.timestamp("ms", "UTC")

SETTINGS = ModelSettings(
    seed=SEED,
    retrieval=RetrievalSettings(
        length=LENGTH, dim=8, heads=2, epochs=2, refit_epochs=1, batch_size=8, dropout=0.0, input_scale=1.5
    ),
    ranking=RankingSettings(buckets=32, epochs=1, batch_size=8, attended_items=LENGTH, attention_dropout=0.0),
)


def data() -> TrainingData:
    """What is trained on."""
    return training_data(tables())


def tables() -> Tables:
    """Users who walk through the items in order from a random start, so that there is something to learn.

    They like the items of two categories in four: one of them by a like, the other by a rating; they rate a third low.
    """
    rng = np.random.default_rng(SEED)
    users = np.repeat(np.arange(USERS), EVENTS)
    items = (np.repeat(rng.integers(0, ITEMS, USERS), EVENTS) + np.tile(np.arange(EVENTS), USERS)) % ITEMS
    times = NOW - DAY_MS + np.tile(np.arange(EVENTS), USERS) * 60_000 + users * 1_000
    interactions = pa.table(
        {
            "event_id": [f"e{number}" for number in range(len(users))],
            "happened_at": pa.array(times.tolist(), _STAMP),
            "user_id": [f"u{user}" for user in users],
            "session_id": pa.array([None] * len(users), pa.string()),
            "surface": pa.array([None] * len(users), pa.string()),
            "item_id": [f"i{item}" for item in items],
            "kind": [("like", "rating", "rating", "click")[item % 4] for item in items],
            "value": pa.array([(None, 5.0, 2.0, None)[item % 4] for item in items], pa.float64()),
        }
    )
    late = np.flatnonzero(np.tile(np.arange(EVENTS), USERS) >= EVENTS - 4)
    rows = [
        (f"g{number}", users[number], times[number], item, int(item == items[number]))
        for number in late
        for item in (items[number], *rng.choice(np.setdiff1d(np.arange(ITEMS), items[users == users[number]]), 5))
    ]
    group, user, at, item, label = zip(*rows, strict=True)
    count = len(rows)
    examples = pa.table(
        {
            "group_id": group,
            "user_id": [f"u{number}" for number in user],
            "event_timestamp": pa.array([int(time) for time in at], _STAMP),
            "item_id": [f"i{number}" for number in item],
            "label": list(label),
            "sampling": ["positive" if wanted else "uniform" for wanted in label],
            "position": pa.array([None] * count, pa.int32()),
            "interactions_total": [10.0] * count,
            "mean_value": pa.array([None] * count, pa.float64()),
            "attributes": ["{}"] * count,
            "item_interactions_total": [10.0] * count,
            "item_mean_value": pa.array([None] * count, pa.float64()),
        }
    )
    names = [f"i{item}" for item in range(ITEMS)]
    catalogue = pa.table(
        {
            "event_id": names,
            "happened_at": pa.array([NOW - 2 * DAY_MS] * ITEMS, _STAMP),
            "item_id": names,
            "removed": [False] * ITEMS,
            "title": names,
            "categories": [[f"c{item % 4}"] for item in range(ITEMS)],
            "attributes": [f'{{"year": {1990 + item}}}' for item in range(ITEMS)],
            "text": [""] * ITEMS,
        }
    )
    features = pa.table(
        {
            "item_id": names,
            "event_timestamp": pa.array([NOW - DAY_MS] * ITEMS, _STAMP),
            "item_interactions_total": [10.0] * ITEMS,
            "item_mean_value": pa.array([None] * ITEMS, pa.float64()),
        }
    )
    return Tables(interactions, catalogue, features, examples, until=NOW)


CUT = NOW - DAY_MS + 17 * 60_000
"""Three of each user's twenty events are later."""


def variables() -> dict[str, str]:
    """What makes the command train the small model."""
    sections = {name: getattr(SETTINGS, name).model_dump(exclude_unset=True) for name in ("retrieval", "ranking")}
    return {"FLYWHEEL_MODEL__SEED": str(SEED)} | {
        f"FLYWHEEL_MODEL__{section.upper()}__{name.upper()}": json.dumps(value)
        for section, values in sections.items()
        for name, value in values.items()
    }


def lake_tables() -> dict[str, pa.Table]:
    """The same as the lake holds it, with one user's features."""
    made = tables()
    users = pa.table(
        {
            "user_id": ["u0"],
            "event_timestamp": pa.array([NOW - 2 * DAY_MS], _STAMP),
            "interactions_30d": [1.0],
            "interactions_total": [1.0],
            "mean_value": pa.array([None], pa.float64()),
            "attributes": ["{}"],
        }
    )
    items = made.items.append_column("hidden", pa.array([False] * ITEMS))
    for name in ("available_from", "available_until"):
        items = items.append_column(name, pa.array([None] * ITEMS, _STAMP))
    names = ("interactions", "item_features", "examples")
    return {name: getattr(made, name) for name in names} | {"user_features": users, "items": items}


def train(rank: int, world: int, folder: str) -> None:
    """Train in one of `world` gloo processes; losses and weights go to a file of the folder."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world)
    fitted = fit(data(), SETTINGS, Lineage({}, SEED, "test"), Timer(lambda _name, _share: None))
    losses = [fitted.metrics[name] for name in sorted(fitted.metrics) if "loss" in name]
    np.savez(
        f"{folder}/{rank}.npz",
        losses=np.array(losses),
        table=fitted.retrieval.table.numpy(),
        ranker=fitted.ranker.items.numpy(),
    )
    distributed.destroy_process_group()
