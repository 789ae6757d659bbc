"""The comparison as tables to read."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table

from models.bootstrap import Mean
from models.report import Part, Report, Row
from services.quality.compare import Compared
from services.quality.sources import SourceReport

_FIRST = {"ndcg10": "NDCG@10", "hr10": "HR@10", "recall50": "recall@50"}
_THEN = {"mrr": "MRR", "new_recall50": "new items, recall@50"}
_OF_PARTS = {"ndcg10": "NDCG@10", "recall50": "recall@50"}


def tables(found: Compared) -> RenderableType:
    """Return everything that was found."""
    if found.sources is None:
        return comparison_tables(found.comparison)
    return Group(comparison_tables(found.comparison), _parts(found.comparison), *_sources(found.sources))


def comparison_tables(report: Report) -> RenderableType:
    """Return the rankers beside each other, without the parts."""
    return Group(_rankers(report), _more(report), *_left_out(report))


def _rankers(report: Report) -> Table:
    title = f"{report.users:,} users, {report.catalogue:,} items; means over users and 95 % intervals"
    shown = _table(title, ("ranker", *_FIRST.values(), "lead"))
    shown.caption = "lead: the model's NDCG@10 minus the row's, paired over users"
    for row in report.rows:
        shown.add_row(row.name, *(_mean(row.means.get(name)) for name in _FIRST), _lead(row))
    return shown


def _more(report: Report) -> Table:
    shown = _table("More of the same rankers", ("ranker", *_THEN.values(), "popularity bias", "coverage@10"))
    shown.caption = "popularity bias: the mean share of the events that an item of the first ten has"
    for row in report.rows:
        figures = (_mean(row.means.get(name)) for name in _THEN)
        shown.add_row(row.name, *figures, _percent(row.means["popularity10"]), _short(row.coverage10))
    return shown


def _left_out(report: Report) -> Iterator[str]:
    for name, why in report.left_out.items():
        yield f"not shown: {name}, {why}"


def _parts(report: Report) -> Table:
    shown = _table("By part", ("part", "ranker", "users", *_OF_PARTS.values()), texts=2)
    shown.caption = "ranks are among all items"
    for part in report.parts:
        _add_part(shown, part)
    return shown


def _add_part(shown: Table, part: Part) -> None:
    last = list(part.rankers)[-1]
    for number, (name, means) in enumerate(part.rankers.items()):
        part_name, users = (part.name, f"{part.users:,}") if number == 0 else ("", "")
        figures = (_mean(means.get(metric)) for metric in _OF_PARTS)
        shown.add_row(part_name, name, users, *figures, end_section=name == last)


def _sources(report: SourceReport) -> Iterator[RenderableType]:
    shown = _table("Candidate sources", ("source", "recall@200"))
    shown.caption = f"the union holds {report.candidates:.0f} items on average"
    for name, mean in report.recall200.items():
        shown.add_row(name, _mean(mean))
    shown.add_row("union, the ranker's ceiling", _mean(report.union))
    yield shown
    if report.ranker is None:
        yield "no user of the slice has a history, so nothing is ranked by the model"
        return
    check, lead = report.ranker, report.ranker.relative
    yield (
        f"{'passed' if check.passed else 'FAILED'}: the ranker may not lower NDCG@10: retrieval {check.retrieval:.4f}, "
        f"with the ranker {check.ranked:.4f}, relative {lead.difference:+.1%} [{lead.low:+.1%}, {lead.high:+.1%}], "
        f"{check.users:,} users with a history"
    )


def _table(title: str, columns: tuple[str, ...], texts: int = 1) -> Table:
    """Return an empty table whose first columns are texts and the others figures."""
    shown = Table(title=title)
    for number, name in enumerate(columns):
        shown.add_column(name, justify="left" if number < texts else "right", overflow="fold")
    return shown


def _mean(mean: Mean | None) -> str:
    return "-" if mean is None else f"{_short(mean.mean)} ({_short(mean.low)}-{_short(mean.high)})"


def _short(value: float) -> str:
    """Return a figure to three places without a leading zero, as the tables of papers have it."""
    return f"{value:.3f}".removeprefix("0")


def _percent(mean: Mean) -> str:
    return f"{mean.mean:.2%} ({mean.low:.2%}-{mean.high:.2%})"


def _lead(row: Row) -> str:
    lead = row.lead.get("ndcg10")
    return "-" if lead is None else f"{lead.difference:+.3f} [{lead.low:+.3f}, {lead.high:+.3f}]"
