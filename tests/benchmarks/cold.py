"""The suite `cold`: items that appear only after the training cut, found by what is known of them besides behaviour.

MovieLens-100K, the first 80 % of the events train; a tenth of the items, drawn with the seed, is taken out of them and
of every history before the cut. After it each second of a user that has such an item is asked for, given all that the
user did before, over the full catalogue and among the new items alone.
"""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from ml100k import Content, Question, Split, by_user, gain, questions, scores, split, trained
from numpy.typing import NDArray

from models.bootstrap import bootstrap_mean
from models.config import RetrievalSettings
from models.content import ItemContent, content_vectors, fit_content
from models.text_encoder import MiniLm, TextExtraMissing
from streaming.dataset import DataSetMissing
from streaming.movielens import load_movielens_100k

KEY = "ml100k_cold"
CUT, END, HELD_BACK = 0.8, 1.0, 0.1
KS = (10, 50, 200)
TEXT_WIDTH = 32
# Chosen on the eighth tenth of the events, with other draws of new items: with 6 epochs and a share of .15 the recall
# of new items was lower with and without text, and it hardly changed with 16, 32 or 64 directions.
SETTINGS = RetrievalSettings(epochs=12, unknown_share=0.3)


@dataclass(frozen=True)
class Variant:
    """What a model knows of an item besides its id."""

    categories: bool
    text: bool

    def content(self, part: Split) -> Content:
        """Return the content of all items, fitted on the known ones."""
        items = list(part.items) if self.categories else [_bare(item) for item in part.items]
        if not self.text:
            items = [replace(item, text_vector=None) for item in items]
        spec = fit_content(items[: part.known], TEXT_WIDTH if self.text else 0)
        vectors = content_vectors(spec, items)
        return Content(vectors if vectors.shape[1] else np.zeros((len(items), 1), np.float32), spec.text_width)


VARIANTS = {
    "id only": Variant(categories=False, text=False),
    "id, genres, year": Variant(categories=True, text=False),
    "id, text": Variant(categories=False, text=True),
    "id, genres, year, text": Variant(categories=True, text=True),
}


BASE = "id only"
PAIRS = (
    ("id, genres, year", BASE),
    ("id, text", BASE),
    ("id, genres, year, text", "id, genres, year"),
    ("nearest by genres, year, text", "nearest by genres, year"),
)


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
    report: dict[str, Any] = {"settings": SETTINGS.model_dump(), "text_width": TEXT_WIDTH, "splits": []}
    tables: list[pd.DataFrame] = []
    for seed in range(1, 1 + (1 if options.quick else max(options.seeds, 1))):
        part = split(data, CUT, END, HELD_BACK, seed)
        part = replace(part, items=[replace(item, text_vector=by_name[item.item_id]) for item in part.items])
        report["splits"].append(_described(part, seed))
        for name, figures in _measured(part, seed):
            tables.append(figures.assign(model=name, seed=seed))
            report |= _summary(pd.concat(tables))
            save(report)
    report["seconds"] = time.perf_counter() - started
    return report


def _measured(part: Split, seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the figures of each model by name."""
    asked, everything = questions(part, part.known), questions(part)
    for name, variant in VARIANTS.items():
        content = variant.content(part)
        model = trained(part, content, SETTINGS, seed)
        figures = _recalls(asked, scores(model, part.log, asked), part)
        yield name, figures.join(_all_ndcg(everything, scores(model, part.log, everything)))
        if name != BASE:
            yield f"nearest by {name.removeprefix('id, ')}", _recalls(asked, _nearest(part, content, asked), part)


def _bare(item: ItemContent) -> ItemContent:
    return ItemContent(item.item_id, title=item.title, text_vector=item.text_vector)


def _described(part: Split, seed: int) -> dict[str, int]:
    asked = questions(part, part.known)
    return {
        "seed": seed,
        "known_items": part.known,
        "new_items": len(part.items) - part.known,
        "training_events": len(part.training.rows),
        "users": len({question.user for question in asked}),
        "questions": len(asked),
    }


def _nearest(part: Split, content: Content, asked: Sequence[Question]) -> Iterator[NDArray[np.float32]]:
    """Score by the cosine to the mean content of the last ten items."""
    unit = content.vectors / np.maximum(np.linalg.norm(content.vectors, axis=1, keepdims=True), 1e-9)
    for question in asked:
        history = part.log.rows[question.history]
        scored = unit @ unit[history[-10:]].mean(axis=0)
        scored[history] = np.nan
        yield scored


def _recalls(asked: Sequence[Question], scored: Iterator[NDArray[np.float32]], part: Split) -> pd.DataFrame:
    """Return each user's mean recall of new items, over the full catalogue and among the new items (`new_`)."""
    figures = []
    for question, row in zip(asked, scored, strict=True):
        everywhere = [recall(row, question.targets, k) for k in KS]
        among = [recall(row[part.known :], question.targets - part.known, k) for k in KS]
        figures.append(everywhere + among)
    return by_user(asked, pd.DataFrame(figures, columns=[f"{among}recall{k}" for among in ("", "new_") for k in KS]))


def _all_ndcg(asked: Sequence[Question], scored: Iterator[NDArray[np.float32]]) -> pd.DataFrame:
    """Return each user's mean NDCG@10 over all that was asked, new items or not."""
    return by_user(
        asked, pd.DataFrame({"all_ndcg10": [gain(row, one) for one, row in zip(asked, scored, strict=True)]})
    )


def recall(scored: NDArray[np.float32], targets: NDArray[np.int64], k: int) -> float:
    """Return the share of the targets among the first `k`, NaN being no candidate; ties count by their chance."""
    hits = []
    for target in targets.tolist():
        better, tied = int((scored > scored[target]).sum()), int((scored == scored[target]).sum())
        hits.append(min(max((k - better) / tied, 0.0), 1.0))
    return float(np.mean(hits))


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    """Return each model's figures, of each user the mean over the seeds, and what text changes, by user and seed."""
    by_model = {
        name: rows.drop(columns="model").set_index("seed", append=True)
        for name, rows in table.groupby("model", sort=False)
    }
    report: dict[str, Any] = {"models": {name: _figures(rows) for name, rows in by_model.items()}}
    differences = {
        f"{name}, minus {other}": _figures(by_model[name] - by_model[other])
        for name, other in PAIRS
        if name in by_model and other in by_model
    }
    return report | {"differences": differences}


def _figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Return mean and interval of each column that is there, over users with their seeds together, and each seed's."""
    rows = rows.dropna(axis="columns", how="all")
    users, seeds = rows.groupby(level="user").mean(), rows.groupby(level="seed").mean()
    return {name: vars(bootstrap_mean(users[name].dropna(), seed=0)) | {"seeds": seeds[name].tolist()} for name in rows}
