"""The sample of the Open Bandit Dataset inside the `obp` package, whose files are read and whose code is not imported.

It holds impressions of a fashion shop with the position and the propensity of each item shown, by two policies for
three campaigns. Source: Y. Saito, S. Aihara, M. Matsutani and Y. Narita, Open Bandit Dataset and Pipeline, NeurIPS
Datasets and Benchmarks, 2021.
"""

import csv
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from streaming.dataset import DataSetMissing, ItemRecord
from streaming.events import Impression, Interaction, Kind, LoggedState, SlateItem
from streaming.ids import ItemId

_FEWEST_CLICKS = 1_000
_PRODUCER = "open-bandit"
_CATEGORIES = ("item_feature_1", "item_feature_2", "item_feature_3")


class Policy(StrEnum):
    """Which policy chose the items: uniformly at random, or Bernoulli Thompson sampling."""

    RANDOM = "random"
    BTS = "bts"


class Campaign(StrEnum):
    """Which items were to choose from: 80 for all, 34 for men, 46 for women."""

    ALL = "all"
    MEN = "men"
    WOMEN = "women"


@dataclass(frozen=True)
class BanditLog:
    """One policy's log for one campaign: an impression of one item a row, in order of time, and the clicks on them."""

    policy: Policy
    campaign: Campaign
    items: Sequence[ItemRecord]
    impressions: Sequence[Impression]
    clicks: Sequence[Interaction]

    @property
    def verdict(self) -> str:
        """What the log's size allows, for a report; below 1,000 clicks it is too small to rank models by."""
        size = "too small" if len(self.clicks) < _FEWEST_CLICKS else "large enough"
        return f"{size} to rank models by"


def load_open_bandit(policy: Policy, campaign: Campaign) -> BanditLog:
    """Return the sample's log of `policy` for `campaign`.

    The log names a round's user by hashed features alone, so each round is a session of its own. Positions count from 0
    where the log's count from 1; the log has no scores, so they are 0. A click has its impression's time, as the log
    has no other. Raises DataSetMissing when the package with the files is not installed.
    """
    folder = _folder() / policy / campaign
    impressions, clicks = [], []
    for number, row in enumerate(_rows(folder / f"{campaign}.csv")):
        impression = _impression(f"{policy}-{campaign}-{number}", policy, campaign, row)
        impressions.append(impression)
        if int(row["click"]):
            clicks.append(_click(impression))
    items = [_item(row) for row in _rows(folder / "item_context.csv")]
    return BanditLog(policy, campaign, items, impressions, clicks)


def _impression(identifier: str, policy: Policy, campaign: Campaign, row: dict[str, str]) -> Impression:
    moment = datetime.fromisoformat(row["timestamp"])
    time = int(moment.timestamp()) * 1000 + moment.microsecond // 1000
    shown = SlateItem(
        item_id=row["item_id"],
        position=int(row["position"]) - 1,
        score=0.0,
        propensity=float(row["propensity_score"]),
        source=policy,
    )
    return Impression(
        event_id=identifier,
        happened_at=time,
        received_at=time,
        producer=_PRODUCER,
        surface=campaign,
        variant=policy,
        slate=[shown],
        seed=0,
        session_id=identifier,
        user_state=LoggedState(history=[], features=_user_features(row)),
    )


def _click(impression: Impression) -> Interaction:
    shown = impression.slate[0]
    return Interaction(
        event_id=f"{impression.event_id}-click",
        happened_at=impression.happened_at,
        received_at=impression.received_at,
        producer=_PRODUCER,
        item_id=shown.item_id,
        kind=Kind.CLICK,
        session_id=impression.session_id,
        surface=impression.surface,
        request_id=impression.request_id,
        position=shown.position,
    )


def _user_features(row: dict[str, str]) -> dict[str, str | float]:
    """Return the hashed features, and how often the user clicked each item before, where that is not 0."""
    features: dict[str, str | float] = {name: row[name] for name in row if name.startswith("user_feature_")}
    for name, value in row.items():
        if name.startswith("user-item_affinity_") and value and float(value):
            features[name] = float(value)
    return features


def _item(row: dict[str, str]) -> ItemRecord:
    categories = [f"{name}={row[name]}" for name in _CATEGORIES]
    return ItemRecord(ItemId(row["item_id"]), "", categories, {"item_feature_0": float(row["item_feature_0"])})


def _folder() -> Path:
    spec = importlib.util.find_spec("obp")  # finds the package without importing it, which fails
    folder = spec and spec.origin and Path(spec.origin).parent / "dataset" / "obd"
    if not folder or not folder.is_dir():
        raise DataSetMissing("the Open Bandit sample is not installed: run `uv sync --group dev`")
    return folder


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)
