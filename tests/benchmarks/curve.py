"""The suite `curve`: what more data and another seed are worth, on MovieLens-100K cut at 90 % of its events.

Whole models, retrieval and ranker, are trained on a share of the users or of the time before the cut and rank the full
catalogue for the users of the last tenth as of the cut. All are asked the same, with whole histories and live counts;
the share is of what they were trained on. The baselines are fitted on everything before the cut.
"""

import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import movielens
import msgspec
import numpy as np
from movielens_tables import slice_of, tables_of

from models.artifact import write_artifact
from models.bootstrap import Mean
from models.config import ModelSettings
from models.dataset import training_data
from models.export import artifact_parts
from models.fitting import Timer, fit
from models.offline import ModelRanker
from models.quality import means
from models.scorer import Scorer
from models.slice_baselines import fitted
from models.slices import Slice
from models.spec import Lineage
from models.time_split import Measured, TimeSplit, ask
from services.quality.sources import report_sources
from streaming.dataset import DataSet, InteractionRecord
from streaming.movielens import load_movielens_100k

KEY = "ml100k_curve"
missing = movielens.missing
CUT = 0.9
SHARES = (10, 25, 50)
_DRAW = 17  # seed of the users that are kept and of the examples' negatives

Records = Sequence[InteractionRecord]


def run(options: Namespace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train at every share with every seed (1, 2, 3 …, named in advance); `save` gets what is known after a share."""
    data, started = load_movielens_100k(), time.perf_counter()
    train, test = data.split(CUT)
    part = slice_of(data, train, test)
    split = TimeSplit.of(part)
    report: dict[str, Any] = {
        "users": len(split.asked),
        "baselines": {name: _figures(ask(name, ranker, split)) for name, ranker in fitted(part, split)},
        "points": [],
        "failed": [],
    }
    for by, share in _points(options.quick):
        kept = _kept(train, by, share)
        rows = [_measure(data, kept, part, split, seed) for seed in range(1, 1 + max(options.seeds, 1))]
        report["points"].append({"by": by, "share": share, "events": len(kept)} | _over_seeds(rows))
        save(report)
    whole = report["points"][-1]["seeds"][0]["sources"]
    if not whole["ranker"]["passed"]:
        report["failed"].append("the ranker lowers NDCG@10")
    report["seconds"] = time.perf_counter() - started
    return report


def _points(quick: bool) -> list[tuple[str, int]]:
    """Return how much of what is trained on; the last one is everything."""
    some = [("users", 25)] if quick else [(by, share) for by in ("users", "time") for share in SHARES]
    return [*some, ("all", 100)]


def _kept(train: Records, by: str, share: int) -> Records:
    if by == "users":
        users = sorted({record.user_id for record in train})
        chosen = set(np.random.default_rng(_DRAW).permutation(users)[: len(users) * share // 100].tolist())
        return [record for record in train if record.user_id in chosen]
    first, last = train[0].time, train[-1].time
    since = last - (last - first) * share // 100
    return [record for record in train if record.time >= since]


def _measure(data: DataSet, train: Records, part: Slice, split: TimeSplit, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    trained = training_data(tables_of(data, train, part.start, _DRAW))
    settings = ModelSettings(seed=seed)
    found = fit(trained, settings, Lineage({}, seed, "benchmark"), Timer(lambda _name, _share: None))
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        write_artifact(Path(folder), artifact_parts(found, trained))
        scorer = Scorer.load(Path(folder))
        figures = _figures(ask("model", ModelRanker(scorer, part, split), split))
        sources = report_sources(scorer, part, split, settings.gate.tolerance, seed)
    check = {"passed": sources.ranker is not None and sources.ranker.passed}
    told = msgspec.to_builtins(sources)
    return {"seed": seed, "test": figures, "sources": told | {"ranker": told["ranker"] | check}, "seconds": seconds}


def _figures(measured: Measured) -> dict[str, Any]:
    found: dict[str, Mean] = means(measured.columns, seed=0)
    return {name: msgspec.to_builtins(mean) for name, mean in found.items()} | {"coverage10": measured.coverage10}


def _over_seeds(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the runs, and NDCG@10's mean and standard deviation over the seeds, None of a single one."""
    values = [row["test"]["ndcg10"]["mean"] for row in rows]
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {"seeds": rows, "ndcg10": float(np.mean(values)), "deviation_over_seeds": deviation}
