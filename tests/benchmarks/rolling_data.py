"""MovieLens-100K cut at a percentage of its events, and what was measured there, kept in the work folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from models.heldout import Ranked, frozen_cases, frozen_ndcg, prequential_groups, prequential_ndcg
from services.config import Settings
from services.demo.world import Replayed
from streaming.dataset import DataSet
from streaming.ids import UserId
from streaming.movielens import load_movielens_100k

STEP = 5  # percent of the events: between two cuts, and what is asked after each


class Values(msgspec.Struct, frozen=True, kw_only=True):
    """NDCG@10 of one ranker after one cut, by user: of the live histories, and of those that end at the cut."""

    prequential: dict[str, float]
    frozen: dict[str, float]


class Baselines(msgspec.Struct, frozen=True, kw_only=True):
    """What the baselines fitted up to a cut reached on the next 5 %, by name."""

    percent: int
    seconds: float
    values: dict[str, Values]


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """What the pipeline fed up to a cut served on the next 5 %; `settings` are those of the model."""

    percent: int
    seconds: float
    groups: int
    values: Values
    seen_rate: float
    balanced: bool
    settings: dict[str, Any]
    taught: dict[str, Any]


def world_at(percent: int) -> Replayed:
    """Return the events before the cut for training and the next 5 % of all events as held out."""
    data = load_movielens_100k()
    first, last = (_boundary(data, share) for share in (percent, percent + STEP))
    return Replayed(data, data.interactions[:first], data.interactions[first:last])


def _boundary(data: DataSet, percent: int) -> int:
    """Return where the second begins in which a share of the events is reached: a second is asked for as a whole."""
    events, place = data.interactions, len(data.interactions) * percent // 100
    while 0 < place < len(events) and events[place - 1].time // 1000 == events[place].time // 1000:
        place -= 1
    return place


def values_of(world: Replayed, frozen: Mapping[UserId, Ranked], live: Sequence[Ranked]) -> Values:
    """Score a ranker's answers: as of the cut by user, and before each group in the order of the groups."""
    cases = frozen_cases(world.train, world.test)
    scores = zip(cases, frozen_ndcg(cases, frozen), strict=True)
    prequential = prequential_ndcg(prequential_groups(world.test), live)
    return Values(
        prequential={str(user): value for user, value in prequential.items()},
        frozen={str(case.user_id): value for case, value in scores},
    )


def model_settings(settings: Settings) -> dict[str, Any]:
    """Return what the figures depend on besides the data: the model's settings without its folders."""
    return settings.model.model_dump(mode="json", exclude={"artifacts", "checkpoints", "gate"})


def pipeline_file(work: Path, percent: int) -> Path:
    """Return where the pipeline's figures after a cut are kept."""
    return work / f"pipeline-{percent}.json"


def baselines_file(work: Path, percent: int) -> Path:
    """Return where the baselines' figures after a cut are kept."""
    return work / f"baselines-{percent}.json"


def keep(file: Path, found: msgspec.Struct) -> None:
    """Write a file in one step, so that one that exists is whole."""
    draft = file.with_suffix(".draft")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    draft.replace(file)
