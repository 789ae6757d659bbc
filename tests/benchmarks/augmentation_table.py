"""The report on augmentation as a table to read."""

from typing import Any

from rich.table import Table


def table(report: dict[str, Any]) -> Table:
    """Return each way's NDCG@10 on validation and its difference to none."""
    data = report["data"]
    title = f"ML-100K validation, {data['users']} users, {data['questions']} questions"
    shown = Table(title=title, caption="difference to none: paired over users, 95 % bootstrap interval")
    for name in ("augmentation", "NDCG@10", "by seed", "difference"):
        shown.add_column(name)
    for name, row in report["models"].items():
        seeds = " ".join(f"{seed['mean']:.4f}" for seed in row["seeds"])
        apart = row["difference"]
        interval = f"{apart['difference']:+.4f} [{apart['low']:+.4f}, {apart['high']:+.4f}]"
        shown.add_row(name, f"{row['mean']:.4f}", seeds, interval)
    return shown
