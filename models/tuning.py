"""Search for settings with Optuna: each trial is a whole training, measured on a validation slice before the cut.

T. Akiba et al., Optuna: a next-generation hyperparameter optimization framework, KDD 2019.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial

from models.artifact import write_artifact
from models.config import ModelSettings
from models.divergence import TrainingDiverged
from models.export import artifact_parts
from models.fitting import Timer, fit
from models.leave_one_out import ScoresUnusable
from models.offline import evaluate
from models.progress import Progress, Step
from models.retrieval_quality import retrieval_ndcg10
from models.scorer import Scorer
from models.spec import Lineage
from models.validation import Validation
from models.vocabulary import Vocabulary

Space = Mapping[str, BaseDistribution]
"""Where to search, by the setting's place in ModelSettings, as `retrieval.dim`."""

_FIRST_PART = "retrieval"
_MARKS = (0.25, 0.5, 0.75, 1.0)  # shares of the sequence model's steps after which a trial may be given up


def space(settings: ModelSettings) -> Space:
    """Return where to search; widths fit the number of heads that is set, rates the embeddings' optimiser."""
    wide = math.lcm(16, settings.retrieval.heads)
    rows = (1e-4, 2e-2) if settings.retrieval.embedding_optimizer == "adam" else (1e-2, 0.5)
    return {
        "retrieval.length": IntDistribution(10, 200, log=True),
        "retrieval.dim": IntDistribution(wide, max(128 // wide, 1) * wide, step=wide),
        "retrieval.blocks": IntDistribution(1, 3),
        "retrieval.dropout": FloatDistribution(0.0, 0.5),
        "retrieval.unknown_share": FloatDistribution(0.05, 0.3),
        "retrieval.epochs": IntDistribution(2, 20, log=True),
        "retrieval.refit_epochs": IntDistribution(1, 4),
        "retrieval.learning_rate": FloatDistribution(1e-3, 2e-2, log=True),
        "retrieval.embedding_learning_rate": FloatDistribution(*rows, log=True),
        "ranking.epochs": IntDistribution(1, 8),
        "ranking.learning_rate": FloatDistribution(1e-3, 2e-2, log=True),
        "ranking.embedding_learning_rate": FloatDistribution(1e-5, 1e-2, log=True),
    }


def present(settings: ModelSettings, where: Space) -> dict[str, Any] | None:
    """Return what is set now, by place, None when any of it lies outside the search."""
    now = {}
    for place, distribution in where.items():
        section, _, name = place.partition(".")
        now[place] = getattr(getattr(settings, section), name)
        if not distribution._contains(distribution.to_internal_repr(now[place])):
            return None
    return now


def chosen(settings: ModelSettings, found: Mapping[str, Any]) -> ModelSettings:
    """Return the settings with what was found, by place, put in; raises ValidationError when they do not fit."""
    values = settings.model_dump()
    for place, value in found.items():
        section, _, name = place.partition(".")
        values[section][name] = value
    return ModelSettings.model_validate(values)


def run_trial(trial: Trial, settings: ModelSettings, on: Validation, progress: Progress) -> float:
    """Train with the trial's settings and return NDCG@10 on the validation slice.

    Raises TrialPruned when the sequence model, measured alone at quarters of its training, falls behind the median of
    the trials before, or when its loss diverges.
    """
    settings = chosen(settings, trial.params)
    watch = _Watch(trial, on, progress)
    try:
        fitted = fit(on.data, settings, Lineage({}, settings.seed, "tuning"), Timer(watch.heard))
        with TemporaryDirectory() as folder:
            write_artifact(Path(folder), artifact_parts(fitted, on.data))
            return float(np.mean(list(evaluate(Scorer.load(Path(folder)), on.part).ndcg10.values())))
    except (TrainingDiverged, ScoresUnusable) as error:  # the second when only the last step made it so
        trial.set_user_attr("diverged", str(error))
        raise optuna.TrialPruned(str(error)) from error


class _Watch:
    """Passes training's progress on and gives a trial up that falls behind."""

    def __init__(self, trial: Trial, on: Validation, progress: Progress) -> None:
        self._trial, self._on, self._progress = trial, on, progress
        self._vocabulary = Vocabulary(item.item_id for item in on.data.items)
        self._passed = 0

    def heard(self, part: str, step: Step) -> None:
        self._progress(f"trial {self._trial.number}, {part}", step)
        if part != _FIRST_PART or step.trained is None or step.share < _MARKS[self._passed]:
            return
        self._passed = sum(mark <= step.share for mark in _MARKS)
        self._trial.report(retrieval_ndcg10(step.trained(), self._on.part, self._vocabulary), self._passed)
        if self._trial.should_prune():
            raise optuna.TrialPruned
