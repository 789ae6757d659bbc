"""The ranking report as tables to read."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

_WIDTH = 40
_SLICES = {"test": "all", "known_users": "known users", "new_users": "new users"}


def table(report: dict[str, Any]) -> RenderableType:
    """Return the models by slice, the ranker's differences with their intervals, and its reliability."""
    shown = [_models(report), _comparisons(report)]
    if "ranker" in report["models"]:
        shown.append(_reliability(report["models"]["ranker"]["seeds"][0]))
    return Group(*shown)


def _models(report: dict[str, Any]) -> Table:
    data = report["data"]
    rows = ", ".join(f"{data['rows'][key]:,} of {data['users'][key]} {name}" for key, name in _SLICES.items())
    shown = Table(title=f"MovieLens-100K, {data['label']}, last 10 %: rows {rows}")
    for name in ("model", "seed", "rows"):
        shown.add_column(name)
    for name in ("log loss", "AUC", "calibration error", "mean prediction", "rate"):
        shown.add_column(name, justify="right")
    for name, model in report["models"].items():
        for row in model["seeds"]:
            for key, rows in _SLICES.items():
                found = row[key]
                cells = (f"{found[key]:.4f}" for key in ("log_loss", "auc", "ece10", "mean_prediction", "rate"))
                shown.add_row(name, str(row.get("seed", "-")), rows, *cells)
    return shown


def _comparisons(report: dict[str, Any]) -> Table:
    shown = Table(title="Log loss, ranker (mean of its seeds) less baseline, 95 % over users")
    shown.add_column("baseline")
    for name in _SLICES.values():
        shown.add_column(name, justify="right")
    for name, row in report["comparisons"].items():
        found = (row[key] for key in _SLICES)
        cells = (f"{one['difference']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]" for one in found)
        shown.add_row(name, *cells)
    return shown


def _reliability(row: dict[str, Any]) -> Table:
    """Return the bins with a plot: o is the mean prediction, + the rate, * both."""
    shown = Table(title=f"Reliability of the ranker, seed {row['seed']}: ten bins of equally many rows")
    for name in ("rows", "prediction", "rate"):
        shown.add_column(name, justify="right")
    shown.add_column("0" + " " * (_WIDTH - 1) + "1")
    for found in row["test"]["reliability"]:
        places = {"o": round(found["prediction"] * _WIDTH), "+": round(found["rate"] * _WIDTH)}
        line = ["·"] * (_WIDTH + 1)
        for mark, place in places.items():
            line[place] = "*" if places["o"] == places["+"] else mark
        shown.add_row(f"{found['count']:,}", f"{found['prediction']:.3f}", f"{found['rate']:.3f}", "".join(line))
    return shown
