"""The report of the rolling benchmark as tables to read."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def table(report: dict[str, Any]) -> RenderableType:
    """Return the cuts, and the baselines with the pipeline's difference to each."""
    return Group(_cuts(report), _baselines(report))


def _cuts(report: dict[str, Any]) -> Table:
    best = report["claim"]["baseline"]
    title = f"MovieLens-100K, each cut asked on the next {report['step_percent']} %: NDCG@10, means over users"
    shown = Table(title=title, caption=f"baseline: {best}, the best on validation")
    for name in ("cut", "users", "groups", "prequential", "baseline", "frozen", "baseline", "seconds"):
        shown.add_column(name, justify="right")
    for cut in report["cuts"]:
        figures = [f"{cut[part][who]:.4f}" for part in ("prequential", "frozen") for who in ("pipeline", "baseline")]
        whole = (f"{cut['percent']} %", f"{cut['users']}", f"{cut['groups']:,}")
        shown.add_row(*whole, *figures, f"{cut['seconds']:.0f}")
    return shown


def _baselines(report: dict[str, Any]) -> Table:
    claim, frozen = report["claim"], report["frozen_without_claim"]
    caption = f"pipeline minus baseline, paired over {claim['users']} users with all their cuts, 95 %; frozen: no claim"
    shown = Table(title="All cuts: users' means over their cuts, then the mean over users", caption=caption)
    for name in ("ranker", "validation", "prequential", "pipeline minus it", "frozen", "pipeline minus it"):
        shown.add_column(name, justify="left" if name == "ranker" else "right")
    shown.add_row("pipeline", "-", f"{claim['pipeline_ndcg10']:.4f}", "-", f"{frozen['pipeline_ndcg10']:.4f}", "-")
    for name, row in sorted(report["baselines"].items(), key=lambda pair: -pair[1]["validation"]["mean_over_cuts"]):
        figures = [cell for part in ("prequential", "frozen") for cell in _cells(row[part])]
        shown.add_row(name, f"{row['validation']['mean_over_cuts']:.4f}", *figures)
    return shown


def _cells(row: dict[str, Any]) -> tuple[str, str]:
    return f"{row['ndcg10']:.4f}", f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}]"
