"""The demonstration's report: what was measured, and which checks it passed."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table

from models.heldout import Quality
from models.metrics import Interval
from services.demo.quality import MARKOV_RECENT, POPULAR_30D, Frozen, Prequential

_PARTS = ("warm", "new", "all")
_TOLERATED_LOSS = 0.02  # one standard error of NDCG@10 over 90 users is .024
_FRESH_MS = 1_000.0
_PACKAGES = (
    "kafka-python",
    "pyspark",
    "feast",
    "torch",
    "torchrec",
    "bentoml",
    "pyiceberg",
    "onnxruntime",
    "faiss-cpu",
)


class Check(msgspec.Struct, frozen=True):
    """One claim and whether it held."""

    name: str
    passed: bool
    detail: str


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run measured; seconds, milliseconds and means as their names say."""

    data: str
    seed: int
    seconds_to_first_recommendation: float
    seconds_total: float
    stages: dict[str, float]
    accounting: dict[str, Any]
    training: dict[str, Any]
    served: dict[str, Quality]
    baselines: dict[str, dict[str, Quality]]
    served_against_30d: dict[str, Interval]
    prequential: Prequential
    freshness_ms: dict[str, float]
    new_item_ms: float
    fallbacks: dict[str, int]
    versions: dict[str, str]
    checks: list[Check]


def versions() -> dict[str, str]:
    """Return the versions of what does the work."""
    return {package: version(package) for package in ("flywheel", *_PACKAGES)}


def checks_of(frozen: Frozen, prequential: Prequential, freshness_p99: float, balanced: bool) -> list[Check]:
    """Return the checks that decide the exit code."""
    return [
        Check("accounting balances", balanced, "published = Kafka = inserted + duplicates + dead letters, exactly"),
        *_frozen_checks(frozen),
        _above(
            "prequential NDCG@10 above the live 30-day list, 95 % interval",
            prequential.difference_low,
            0.0,
            "lower end",
        ),
        _above(
            "prequential NDCG@10 above Markov x sqrt(popularity)",
            prequential.ndcg10,
            prequential.other_baselines[MARKOV_RECENT],
            "served",
        ),
        Check(
            "click to change, p99", freshness_p99 <= _FRESH_MS, f"{freshness_p99:.0f} ms, allowed {_FRESH_MS:.0f} ms"
        ),
    ]


def _frozen_checks(frozen: Frozen) -> Iterator[Check]:
    for part, interval in frozen.against_30d.items():
        passed = interval.difference >= -_TOLERATED_LOSS
        detail = f"difference {interval.difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
        yield Check(f"frozen NDCG@10, {part} users, not below the 30-day list by more than .02", passed, detail)
    seen = frozen.served["all"].seen_rate
    yield Check("no seen item returned", seen == 0.0, f"share {seen}")


def _above(name: str, value: float, bound: float, what: str) -> Check:
    return Check(name, value > bound, f"{what} {value:.4f}, to beat {bound:.4f}")


def write_report(report: Report, path: Path) -> None:
    """Write the report as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def print_report(report: Report, console: Console) -> None:
    """Print the summary table and the checks."""
    table = Table(title=f"Served quality on held-out events ({report.data}, frozen history)")
    for name in ("users", "ranker", "HR@10", "NDCG@10", "recall@50", "coverage"):
        table.add_column(name, justify="left" if name in ("users", "ranker") else "right", no_wrap=True)
    for part in _PARTS:
        for name, parts in {"served": report.served, **report.baselines}.items():
            table.add_row(part, name, *_cells(parts[part]), end_section=name == list(report.baselines)[-1])
    console.print(table)
    live = report.prequential
    best = "" if live.best_possible_ndcg10 is None else f", best possible {live.best_possible_ndcg10:.3f}"
    others = ", ".join(f"{name} {value:.3f}" for name, value in live.other_baselines.items())
    for line in (
        f"Prequential NDCG@10 over {live.users} users: served {live.ndcg10:.3f}, {POPULAR_30D} "
        f"{live.baseline_ndcg10:.3f}, difference {live.difference:+.3f} "
        f"[{live.difference_low:+.3f}, {live.difference_high:+.3f}]{best}",
        f"  other baselines: {others}",
        f"Click to change: p50 {report.freshness_ms['p50']:.0f} ms, p99 {report.freshness_ms['p99']:.0f} ms; "
        f"new item recommended after {report.new_item_ms:.0f} ms",
        f"First recommendation after {report.seconds_to_first_recommendation:.1f} s, "
        f"all after {report.seconds_total:.1f} s",
    ):
        console.print(line, highlight=False, markup=False)
    for check in report.checks:
        console.print(f"{'✔' if check.passed else '✘'} {check.name}: {check.detail}", highlight=False, markup=False)


def _cells(quality: Quality) -> list[str]:
    return [f"{value:.3f}" for value in (quality.hr10, quality.ndcg10, quality.recall50, quality.coverage10)]
