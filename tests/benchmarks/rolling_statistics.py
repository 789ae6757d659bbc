"""How the cuts of the rolling benchmark are added up, and the pipeline compared with the baselines.

A ranker's figure is the mean over users of the user's mean over the cuts whose next 5 % have an event of the user; so
a user counts once however many cuts they appear in. The difference of two rankers is that of these means. Its interval
resamples users with replacement, each with all their cuts and both rankers' values together (95 %, percentile).

The best baseline, settings of one kind included, is that of the highest mean over cuts of the mean over users on the
5 % before each cut, fitted on what was before that. The pipeline's figures have no part in it. From the second cut on
the 5 % before a cut are also the test of the cut before, which can only favour the baselines.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rolling_baselines import HALF_LIVES, decayed
from rolling_data import STEP, Baselines, Pipeline

from models.metrics import paired_bootstrap

DRAWS = 10_000
PROTOCOLS = ("prequential", "frozen")

ByUser = Mapping[str, float]


def compare(pipelines: Sequence[Pipeline], baselines: Mapping[int, Baselines], seed: int) -> dict[str, Any]:
    """Return every figure; `baselines` are by cut, those of 5 % before each pipeline's cut included.

    Raises ValueError when pipeline and baselines were not asked for the same users.
    """
    validation = _validation([cut.percent for cut in pipelines], baselines)
    best = max(validation, key=lambda name: validation[name]["mean_over_cuts"])
    rows = {
        name: {"validation": validation[name]}
        | {protocol: _against(pipelines, baselines, name, protocol, seed) for protocol in PROTOCOLS}
        for name in validation
    }
    claim = {"baseline": best} | rows[best]["prequential"]
    return {
        "step_percent": STEP,
        "bootstrap": {"draws": DRAWS, "seed": seed},
        "half_life_days": max(HALF_LIVES, key=lambda days: validation[decayed(days)]["mean_over_cuts"]),
        "claim": claim | {"passed": claim["low"] > 0},
        "frozen_without_claim": {"baseline": best} | rows[best]["frozen"],
        "baselines": rows,
        "cuts": [_cut(pipeline, baselines[pipeline.percent], best) for pipeline in pipelines],
    }


def user_means(cuts: Sequence[ByUser]) -> dict[str, float]:
    """Return each user's mean over the cuts that they appear in."""
    values: dict[str, list[float]] = defaultdict(list)
    for cut in cuts:
        for user, value in cut.items():
            values[user].append(value)
    return {user: float(np.mean(own)) for user, own in sorted(values.items())}


def _validation(percents: Sequence[int], baselines: Mapping[int, Baselines]) -> dict[str, dict[str, float]]:
    before = [baselines[percent - STEP].values for percent in percents]
    return {
        name: {
            "mean_over_cuts": float(np.mean([_mean(cut[name].prequential) for cut in before])),
            "mean_over_users": _mean(user_means([cut[name].prequential for cut in before])),
        }
        for name in before[0]
    }


def _against(
    pipelines: Sequence[Pipeline], baselines: Mapping[int, Baselines], name: str, protocol: str, seed: int
) -> dict[str, Any]:
    ours: list[ByUser] = [getattr(cut.values, protocol) for cut in pipelines]
    theirs: list[ByUser] = [getattr(baselines[cut.percent].values[name], protocol) for cut in pipelines]
    if any(our.keys() != their.keys() for our, their in zip(ours, theirs, strict=True)):
        raise ValueError(f"the pipeline and {name} were asked for other users: empty the work folder")
    our_means, their_means = user_means(ours), user_means(theirs)
    found = paired_bootstrap(list(our_means.values()), list(their_means.values()), seed, DRAWS)
    return {
        "users": len(our_means),
        "pipeline_ndcg10": _mean(our_means),
        "ndcg10": _mean(their_means),
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
    }


def _cut(pipeline: Pipeline, baselines: Baselines, best: str) -> dict[str, Any]:
    theirs = baselines.values[best]
    return {
        "percent": pipeline.percent,
        "users": len(pipeline.values.prequential),
        "groups": pipeline.groups,
        "seconds": pipeline.seconds,
        "balanced": pipeline.balanced,
        "seen_rate": pipeline.seen_rate,
        "prequential": {"pipeline": _mean(pipeline.values.prequential), "baseline": _mean(theirs.prequential)},
        "frozen": {"pipeline": _mean(pipeline.values.frozen), "baseline": _mean(theirs.frozen)},
    }


def _mean(values: ByUser) -> float:
    return float(np.mean(list(values.values())))
