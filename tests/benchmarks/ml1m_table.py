"""The leave-one-out report as a table to read."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def table(report: dict[str, Any]) -> RenderableType:
    """Return the models with their intervals, what others published, and the checks."""
    return Group(_models(report), _published(report), _checks(report))


def _models(report: dict[str, Any]) -> Table:
    data = report["data"]
    title = f"ML-1M leave-one-out: {data['users']:,} users, {data['items']:,} items, {data['events']:,} events"
    shown = Table(title=title, caption="test, means over users with their 95 % bootstrap intervals")
    for name in ("model", "seed", "chosen"):
        shown.add_column(name)
    for name in ("HR@10", "NDCG@10", "MRR", "coverage@10", "popularity", "validation", "fit s"):
        shown.add_column(name, justify="right")
    for name, model in report["models"].items():
        for row in model["seeds"]:
            shown.add_row(name, str(row["seed"]), str(row["notes"].get("chosen", "")), *_cells(row))
    return shown


def _cells(row: dict[str, Any]) -> list[str]:
    test = row["test"]
    return [
        *(f"{test[key]:.4f} ({test[f'{key}_low']:.4f}-{test[f'{key}_high']:.4f})" for key in ("hr10", "ndcg10")),
        f"{test['mrr']:.4f}",
        f"{test['coverage10']:.3f}",
        f"{test['popularity10']:.2%}",
        f"{row['validation']['hr10']:.4f} {row['validation']['ndcg10']:.4f}",
        f"{row['fit_seconds']:.1f}",
    ]


def _published(report: dict[str, Any]) -> Table:
    shown = Table(title="Published by others, not measured here")
    for name in ("model", "HR@10", "NDCG@10"):
        shown.add_column(name)
    for name, row in report["published"].items():
        shown.add_row(name, f"{row['hr10']:.4f}", f"{row['ndcg10']:.4f}")
    return shown


def _checks(report: dict[str, Any]) -> Table:
    checks = report["checks"]
    shown = Table(title="Checks")
    for name in ("check", "model", "measured", "wanted", "passed"):
        shown.add_column(name)
    for check, wanted in (("expected", "within"), ("refit_control", "outside")):
        for name, row in checks[check].items():
            known = f"{wanted} {row['expected'][0]:.4f} {row['expected'][1]:.4f} ± {row['tolerance']}"
            shown.add_row(check, name, f"{row['hr10']:.5f} {row['ndcg10']:.5f}", known, str(row["passed"]))
    row = checks["shuffle_control"]
    lost = f"{row['lost_ndcg10']:.1%} of NDCG@10 lost"
    shown.add_row("shuffle_control", row["model"], lost, f"at least {row['least']:.0%}", str(row["passed"]))
    return shown
