"""The report on new items as a table to read."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table


def table(report: dict[str, Any]) -> RenderableType:
    """Return every model's recall of new items, and what content and text change."""
    first = report["splits"][0]
    title = f"ML-100K, items new after the cut: {first['users']} users, {first['questions']} questions (seed 1)"
    return Group(_figures(title, report["models"]), _figures("Paired differences", report["differences"]))


def _figures(title: str, models: dict[str, Any]) -> Table:
    names = list(dict.fromkeys(name for figures in models.values() for name in figures))
    shown = Table(title=title, caption="means over users, all seeds together, with their 95 % bootstrap intervals")
    shown.add_column("model")
    for name in names:
        shown.add_column(name.replace("new_", "among new ").replace("recall", "recall@"), justify="right")
    for model, figures in models.items():
        shown.add_row(model, *(_cell(figures.get(name)) for name in names))
    return shown


def _cell(figure: dict[str, Any] | None) -> str:
    return "" if figure is None else f"{figure['mean']:.3f} ({figure['low']:.3f}, {figure['high']:.3f})"
