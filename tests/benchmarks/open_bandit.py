"""The suite `open-bandit`: what the sample of the Open Bandit Dataset holds, and that it cannot rank models."""

from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from streaming.dataset import DataSetMissing
from streaming.open_bandit import BanditLog, Campaign, Policy, load_open_bandit

KEY = "open_bandit"


def missing(options: Namespace) -> str:
    """Return why the suite cannot run here, or nothing."""
    try:
        load_open_bandit(Policy.RANDOM, Campaign.MEN)
    except DataSetMissing as error:
        return str(error)
    return ""


def run(options: Namespace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Describe each policy's log for each campaign."""
    logs = [_described(load_open_bandit(policy, campaign)) for policy in Policy for campaign in Campaign]
    return {"logs": logs, "failed": []}


def table(report: dict[str, Any]) -> RenderableType:
    """Return the logs, a line each."""
    shown = Table(title="Open Bandit sample: impressions at positions 0, 1, 2")
    for name in ("policy", "campaign", "items", "impressions", "propensity", "clicks", "size"):
        shown.add_column(name)
    for log in report["logs"]:
        positions = ", ".join(f"{count:,}" for count in log["positions"].values())
        propensity = "{:.2g} to {:.2g}".format(*log["propensity"])
        cells = (str(log["items"]), positions, propensity, str(log["clicks"]), log["verdict"])
        shown.add_row(log["policy"], log["campaign"], *cells)
    return shown


def _described(log: BanditLog) -> dict[str, Any]:
    shown = [impression.slate[0] for impression in log.impressions]
    propensities = [one.propensity for one in shown]
    return {
        "policy": log.policy,
        "campaign": log.campaign,
        "items": len(log.items),
        "impressions": len(log.impressions),
        "clicks": len(log.clicks),
        "positions": dict(sorted(Counter(one.position for one in shown).items())),
        "propensity": (min(propensities), max(propensities)),
        "verdict": log.verdict,
    }
