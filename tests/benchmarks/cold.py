"""The suite `cold`: items that appear only after the training cut, found by what is known of them besides behaviour.

MovieLens-100K, the first 80 % of the events train; a tenth of the items, drawn with the seed, is taken out of them and
of every history before the cut. After it each second of a user that has such an item is asked for, given all that the
user did before, over the full catalogue and among the new items alone.
"""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ml100k import Question, Split, questions, scores, served, split
from numpy.typing import NDArray

from models.bootstrap import bootstrap_mean
from models.config import RetrievalSettings
from models.content import ItemContent, content_vectors, fit_content
from models.retrieval_training import RetrievalTrainer
from models.sharding import limited_threads, process_group
from models.text_encoder import MiniLm, TextExtraMissing
from streaming.dataset import DataSetMissing
from streaming.movielens import load_movielens_100k

KEY = "ml100k_cold"
CUT, END, HELD_BACK = 0.8, 1.0, 0.1
KS = (10, 50, 200)
TEXT_WIDTH = 32
SETTINGS = RetrievalSettings()

Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Variant:
    """What a model knows of an item besides its id."""

    categories: bool
    text: bool

    def content(self, part: Split) -> tuple[NDArray[np.float32], int]:
        """Return the content vectors of all items, and how many of their last columns are text."""
        items = list(part.items) if self.categories else [_bare(item) for item in part.items]
        if not self.text:
            items = [replace(item, text_vector=None) for item in items]
        spec = fit_content(items[: part.known], TEXT_WIDTH if self.text else 0)
        vectors = content_vectors(spec, items)
        return (vectors if vectors.shape[1] else np.zeros((len(items), 1), np.float32)), spec.text_width


VARIANTS = {
    "id only": Variant(categories=False, text=False),
    "id, genres, year": Variant(categories=True, text=False),
    "id, text": Variant(categories=False, text=True),
    "id, genres, year, text": Variant(categories=True, text=True),
}


def missing(options: Namespace) -> str:
    """Return why the suite cannot run here, or nothing."""
    try:
        load_movielens_100k()
        MiniLm.installed()
    except (DataSetMissing, TextExtraMissing) as error:
        return str(error)
    return ""


def run(options: Namespace, save: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Measure every variant once a seed, which draws the new items as well; the baselines need no training."""
    started = time.perf_counter()
    data = load_movielens_100k()
    encoded = MiniLm.installed().encode([item.title for item in data.items])
    by_name = {item.item_id: vector for item, vector in zip(data.items, encoded, strict=True)}
    report: dict[str, Any] = {"settings": SETTINGS.model_dump(), "text_width": TEXT_WIDTH, "splits": [], "models": {}}
    values: dict[str, list[Values]] = {}
    for seed in range(1, 1 + (1 if options.quick else max(options.seeds, 1))):
        part = split(data, CUT, END, HELD_BACK, seed)
        part = replace(part, items=[replace(item, text_vector=by_name[item.item_id]) for item in part.items])
        asked = questions(part, part.known)
        report["splits"].append(_described(part, asked, seed))
        for name, variant in VARIANTS.items():
            content, text_width = variant.content(part)
            values.setdefault(name, []).append(_by_user(asked, _scored(part, content, text_width, asked, seed), part))
            if name != "id only":
                nearest = values.setdefault(f"nearest by {name.removeprefix('id, ')}", [])
                nearest.append(_by_user(asked, _nearest(part, content, asked), part))
        report["models"] = {name: _summary(rows) for name, rows in values.items()}
        save(report)
    report["seconds"] = time.perf_counter() - started
    return report


def _bare(item: ItemContent) -> ItemContent:
    return ItemContent(item.item_id, title=item.title, text_vector=item.text_vector)


def _described(part: Split, asked: Sequence[Question], seed: int) -> dict[str, int]:
    return {
        "seed": seed,
        "known_items": part.known,
        "new_items": len(part.items) - part.known,
        "training_events": len(part.training.rows),
        "users": len({question.user for question in asked}),
        "questions": len(asked),
    }


def _scored(
    part: Split, content: NDArray[np.float32], text_width: int, asked: Sequence[Question], seed: int
) -> Iterator[NDArray[np.float32]]:
    with process_group(), limited_threads(1):
        trainer = RetrievalTrainer(SETTINGS, content[: part.known], seed, text_width)
        trainer.train(part.training, SETTINGS.epochs, 1.0, lambda _share: None)
        model = served(trainer.trained(), content)
    return scores(model, part.log, asked)


def _nearest(part: Split, content: NDArray[np.float32], asked: Sequence[Question]) -> Iterator[NDArray[np.float32]]:
    """Score by the cosine to the mean content of the last ten items."""
    lengths = np.linalg.norm(content, axis=1, keepdims=True)
    unit = content / np.maximum(lengths, 1e-9)
    for question in asked:
        history = part.log.rows[question.history]
        scored = unit @ unit[history[-10:]].mean(axis=0)
        scored[history] = np.nan
        yield scored


def _by_user(asked: Sequence[Question], scored: Iterator[NDArray[np.float32]], part: Split) -> Values:
    """Return each user's mean recall of new items by name, over the full catalogue and among the new items."""
    found: dict[int, list[list[float]]] = {}
    for question, row in zip(asked, scored, strict=True):
        everywhere = [recall(row, question.targets, k) for k in KS]
        among = [recall(row[part.known :], question.targets - part.known, k) for k in KS[:2]]
        found.setdefault(question.user, []).append(everywhere + among)
    names = [f"recall{k}" for k in KS] + [f"new_recall{k}" for k in KS[:2]]
    means = np.array([np.mean(rows, axis=0) for rows in found.values()])
    return dict(zip(names, means.T, strict=True))


def recall(scored: NDArray[np.float32], targets: NDArray[np.int64], k: int) -> float:
    """Return the share of the targets among the first `k`, NaN being no candidate; ties count by their chance."""
    hits = []
    for target in targets.tolist():
        better, tied = int((scored > scored[target]).sum()), int((scored == scored[target]).sum())
        hits.append(min(max((k - better) / tied, 0.0), 1.0))
    return float(np.mean(hits))


def _summary(rows: Sequence[Values]) -> dict[str, Any]:
    """Return each figure of each seed with its interval over users, and the mean over the seeds."""
    seeds = [{name: vars(bootstrap_mean(values, seed=0)) for name, values in row.items()} for row in rows]
    means: Mapping[str, float] = {name: float(np.mean([seed[name]["mean"] for seed in seeds])) for name in seeds[0]}
    return {"seeds": seeds, "mean": means}
