"""The report of the suite `curve` as tables to read."""

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table

_METRICS = {"ndcg10": "NDCG@10", "hr10": "HR@10", "recall50": "recall@50", "popularity10": "popularity bias"}


def table(report: dict[str, Any]) -> RenderableType:
    """Return the learning curve, the baselines and the candidate sources of the first seed."""
    return Group(_curve(report), _baselines(report), _sources(report))


def _curve(report: dict[str, Any]) -> Table:
    title = f"MovieLens-100K, {report['users']} users of the last tenth: what more training data is worth"
    shown = Table(title=title, caption="95 % over users, of each seed; ± over seeds")
    for name in ("trained on", "events", "seed", *_METRICS.values(), "over seeds", "seconds"):
        shown.add_column(name, justify="left" if name == "trained on" else "right", overflow="fold")
    for point in report["points"]:
        for number, row in enumerate(point["seeds"]):
            head = (f"{point['share']} % of {point['by']}", f"{point['events']:,}") if number == 0 else ("", "")
            figures = [_cell(row["test"][metric], metric) for metric in _METRICS]
            shown.add_row(*head, str(row["seed"]), *figures, _seeds(point, number), f"{row['seconds']:.0f}")
    return shown


def _seeds(point: dict[str, Any], number: int) -> str:
    deviation = point["deviation_over_seeds"]
    return f"{point['ndcg10']:.4f} ± {deviation:.4f}" if number == 0 and deviation is not None else ""


def _baselines(report: dict[str, Any]) -> Table:
    shown = Table(title="Baselines, fitted on everything before the cut")
    for name in ("baseline", *_METRICS.values()):
        shown.add_column(name, justify="left" if name == "baseline" else "right", overflow="fold")
    for name, figures in report["baselines"].items():
        shown.add_row(name, *(_cell(figures[metric], metric) for metric in _METRICS))
    return shown


def _sources(report: dict[str, Any]) -> Table:
    found = report["points"][-1]["seeds"][0]["sources"]
    check = found["ranker"]
    verdict = "passed" if check["passed"] else "FAILED"
    lead = check["relative"]
    caption = (
        f"{verdict}: the ranker may not lower NDCG@10: {check['retrieval']:.4f} to {check['ranked']:.4f}, "
        f"{lead['difference']:+.1%} [{lead['low']:+.1%}, {lead['high']:+.1%}]"
    )
    shown = Table(title="Candidate sources of the model of seed 1 trained on everything", caption=caption)
    shown.add_column("source")
    shown.add_column("recall@200", justify="right")
    for name, mean in (found["recall200"] | {"union, the ranker's ceiling": found["union"]}).items():
        shown.add_row(name, _cell(mean, "recall200"))
    return shown


def _cell(mean: dict[str, float], metric: str) -> str:
    if metric == "popularity10":
        return f"{mean['mean']:.2%}"
    return f"{mean['mean']:.4f} ({mean['low']:.4f}-{mean['high']:.4f})"
