"""How the leave-one-out evaluator proves itself: figures that are known, and two controls that must not reach them."""

from typing import Any

import numpy as np
from ml1m_models import MODELS

from models.leave_one_out import Outcome, evaluate
from models.sequences import Questions, Sequences

TOLERANCE = 2e-4
EXPECTED = {
    "popularity": (0.0369, 0.0180),
    "item-knn-50": (0.0796, 0.0399),
    "ease-200": (0.1089, 0.0535),
    "markov-5": (0.2671, 0.1569),
    "markov-20": (0.2778, 0.1632),
}
_SHUFFLED, _LEAST_LOSS = "markov-5", 0.75


def checks(sequences: Sequences, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    """Return every check with what it measured and whether it passed; `outcomes` are those of the test by model."""
    known = {name: _against(name, outcomes[name]) for name in EXPECTED}
    refit = {name: _against(name, _refitted(sequences, name)) for name in EXPECTED}
    lost = 1 - _shuffled(sequences).ndcg10.mean() / outcomes[_SHUFFLED].ndcg10.mean()
    return {
        "expected": {name: row | {"passed": row["within"]} for name, row in known.items()},
        "refit_control": {name: row | {"passed": not row["within"]} for name, row in refit.items()},
        "shuffle_control": {
            "model": _SHUFFLED,
            "lost_ndcg10": float(lost),
            "least": _LEAST_LOSS,
            "passed": bool(lost >= _LEAST_LOSS),
        },
    }


def failures(found: dict[str, Any]) -> list[str]:
    """Return the names of the checks that failed."""
    rows = {f"{check} {name}": row for check in ("expected", "refit_control") for name, row in found[check].items()}
    return [name for name, row in (rows | {"shuffle_control": found["shuffle_control"]}).items() if not row["passed"]]


def _against(name: str, outcome: Outcome) -> dict[str, Any]:
    hr10, ndcg10 = float(outcome.hr10.mean()), float(outcome.ndcg10.mean())
    expected = EXPECTED[name]
    within = abs(hr10 - expected[0]) <= TOLERANCE and abs(ndcg10 - expected[1]) <= TOLERANCE
    return {"hr10": hr10, "ndcg10": ndcg10, "expected": expected, "tolerance": TOLERANCE, "within": within}


def _refitted(sequences: Sequences, name: str) -> Outcome:
    """Fit on one event a user more than is allowed, by giving the model the whole sequences."""
    return evaluate(MODELS[name].build(sequences, 0, False), sequences.test(), sequences.training())


def _shuffled(sequences: Sequences) -> Outcome:
    """Ask with histories whose order is random; the items in them stay."""
    asked = sequences.test()
    histories = asked.histories
    order = np.lexsort((np.random.default_rng(0).random(len(histories.rows)), histories.owners()))
    mixed = Sequences(histories.items, histories.rows[order], histories.starts)
    ranker = MODELS[_SHUFFLED].build(sequences.held_back(1), 0, False)
    return evaluate(ranker, Questions(mixed, asked.targets), sequences.training())
