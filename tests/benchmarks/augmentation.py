"""The suite `augmentation`: what each way of changing the histories in training is worth, on validation.

MovieLens-100K, the first 80 % of the events train and the next 10 % are asked, each second of a user before it happens
with everything that came before it; the last 10 % are not touched. NDCG@10 over the full catalogue by user, and the
paired difference to no augmentation with the same seeds.
"""

import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import movielens
import numpy as np
import pandas as pd
from ml100k import Content, Question, Split, by_user, gain, questions, scores, split, trained
from numpy.typing import NDArray

from models.bootstrap import bootstrap_mean
from models.config import RetrievalSettings
from models.content import content_vectors, fit_content
from models.metrics import paired_bootstrap
from streaming.movielens import load_movielens_100k

KEY = "ml100k_augmentation"
missing = movielens.missing
CUT, END = 0.8, 0.9
WAYS = ("crop", "mask", "reorder", "substitute")
STRENGTHS = (0.1, 0.3)

ByUser = NDArray[np.float64]


def run(options: Namespace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Train every way with every seed; quick has one seed and one strength."""
    started = time.perf_counter()
    part = split(load_movielens_100k(), CUT, END, held_back=0.0, seed=0)
    asked = questions(part)
    content = content_vectors(fit_content(part.items[: part.known]), part.items)
    seeds = range(1, 1 + (1 if options.quick else max(options.seeds, 1)))
    report: dict[str, Any] = {
        "settings": RetrievalSettings().model_dump(),
        "data": {"questions": len(asked), "users": len({question.user for question in asked})},
        "models": {},
    }
    plain: list[ByUser] = []
    for name, settings in _settings(STRENGTHS[1:] if options.quick else STRENGTHS):
        values = [_ndcg(part, content, settings, seed, asked) for seed in seeds]
        plain = plain or values
        report["models"][name] = _summary(values, plain)
        save(report)
    report["seconds"] = time.perf_counter() - started
    return report


def _settings(strengths: Sequence[float]) -> list[tuple[str, RetrievalSettings]]:
    ways = [
        (f"{way} {strength}", RetrievalSettings(augmentation=way, augmentation_strength=strength))
        for way, strength in product(WAYS, strengths)
    ]
    return [("none", RetrievalSettings()), *ways]


def _ndcg(
    part: Split, content: NDArray[np.float32], settings: RetrievalSettings, seed: int, asked: Sequence[Question]
) -> ByUser:
    """Return NDCG@10 of each user, the mean over the user's questions."""
    model = trained(part, Content(content), settings, seed)
    scored = zip(asked, scores(model, part.log, asked), strict=True)
    gains = pd.DataFrame({"ndcg10": [gain(row, question) for question, row in scored]})
    return by_user(asked, gains)["ndcg10"].to_numpy()


def _summary(values: Sequence[ByUser], plain: Sequence[ByUser]) -> dict[str, Any]:
    """Return each seed's mean with its interval, and the difference to `plain`: each user's mean over the seeds."""
    difference = paired_bootstrap(np.mean(values, axis=0), np.mean(plain, axis=0), seed=0)
    return {
        "seeds": [vars(bootstrap_mean(row, seed=0)) for row in values],
        "mean": float(np.mean(values)),
        "deviation": float(np.std([row.mean() for row in values], ddof=1)) if len(values) > 1 else None,
        "difference": vars(difference),
    }
