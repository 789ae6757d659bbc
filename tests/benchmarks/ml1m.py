"""The suite `ml1m`: MovieLens-1M, order only, leave-one-out over the full catalogue."""

import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import numpy as np
from ml1m_checks import checks, failures
from ml1m_models import MODELS, Entry

from models.leave_one_out import Outcome, SequenceRanker, evaluate
from models.sequences import Questions, Sequences, read_sequences

KEY = "ml1m_loo"
PUBLISHED = {
    "SASRec+ (full cross-entropy)": {"hr10": 0.3152, "ndcg10": 0.1821},
    "SASRec+ (3,000 negatives)": {"hr10": 0.3159, "ndcg10": 0.1857},
    "eSASRec": {"hr10": 0.3133, "ndcg10": 0.1772},
    "FuXi-alpha": {"hr10": 0.3164, "ndcg10": 0.1813},
    "HSTU": {"hr10": 0.3097, "ndcg10": 0.1720},
    "HSTU large": {"hr10": 0.3294, "ndcg10": 0.1893},
    "gSASRec": {"hr10": 0.300, "ndcg10": 0.173},
    "BERT4Rec": {"hr10": 0.284, "ndcg10": 0.154},
}


def missing(options: Namespace) -> str:
    """Return why the suite cannot run here, or nothing."""
    return "" if options.ml1m.is_file() else f"{options.ml1m} is not there"


def run(options: Namespace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Make and test every model, then check; `save` gets what is known after each of them."""
    started = time.perf_counter()
    sequences = read_sequences(options.ml1m)
    report: dict[str, Any] = {
        "data": {"users": sequences.users, "items": sequences.items, "events": len(sequences.rows)},
        "models": {},
        "published": PUBLISHED,
    }
    outcomes: dict[str, Outcome] = {}
    for name, entry in MODELS.items():
        for seed in _seeds(entry, options):
            row, outcomes[name] = _measure(sequences, entry, seed, options.quick)
            rows = report["models"].setdefault(name, {"seeds": []})["seeds"]
            rows.append(row)
            report["models"][name]["mean"] = {key: _mean(rows, key) for key in ("hr10", "ndcg10")}
            save(report)
    report["checks"] = checks(sequences, outcomes)
    report["failed"] = failures(report["checks"])
    report["seconds"] = time.perf_counter() - started
    return report


def _seeds(entry: Entry, options: Namespace) -> range:
    """Seeds are named in advance: 1, 2, 3 …"""
    if entry.slow and options.quick:
        return range(0)
    return range(1, 1 + options.seeds) if entry.seeded else range(1, 2)


def _measure(sequences: Sequences, entry: Entry, seed: int, quick: bool) -> tuple[dict[str, Any], Outcome]:
    started, cores = time.perf_counter(), time.process_time()
    ranker = entry.build(sequences.held_back(1), seed, quick)
    fitted = {"fit_seconds": time.perf_counter() - started, "fit_core_seconds": time.process_time() - cores}
    validation = _asked(ranker, sequences, sequences.validation())
    test = _asked(ranker, sequences, sequences.test())
    row = {
        "seed": seed,
        "validation": _figures(validation),
        "test": _figures(test),
        **fitted,
        "seconds": time.perf_counter() - started,
        "notes": dict(getattr(ranker, "notes", {})),
    }
    return row, test


def _asked(ranker: SequenceRanker, sequences: Sequences, questions: Questions) -> Outcome:
    return evaluate(ranker, questions, sequences.training())


def _figures(outcome: Outcome) -> dict[str, float]:
    summary = outcome.summary()
    figures = {"coverage10": summary.coverage10, "popularity10": summary.popularity10}
    means = {"hr10": summary.hr10, "ndcg10": summary.ndcg10, "mrr": summary.mrr, "new_recall10": summary.new_recall10}
    for name, mean in means.items():
        if mean is not None:
            figures |= {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high}
    return figures


def _mean(rows: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([row["test"][key] for row in rows]))
