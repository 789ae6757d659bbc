"""Baselines whose setting is chosen on validation, as a comparison asks for."""

from collections.abc import Callable, Mapping
from typing import Any

from models.leave_one_out import Scores, SequenceRanker, evaluate
from models.sequences import Sequences

Fit = Callable[[Sequences], SequenceRanker]


class Tuned:
    """The ranker of the best NDCG@10 on validation; `notes` say which and what each reached."""

    def __init__(self, known: Sequences, candidates: Mapping[str, Fit]) -> None:
        training, validation = known.held_back(1), known.questions()
        reached: dict[str, float] = {}
        for name, fit in candidates.items():
            ranker = fit(training)
            reached[name] = float(evaluate(ranker, validation, training).ndcg10.mean())
            if reached[name] == max(reached.values()):
                self._best, chosen = ranker, name
        self.notes: dict[str, Any] = {"chosen": chosen, "validation_ndcg10": reached}

    def scores(self, histories: Sequences) -> Scores:
        """Those of the chosen one."""
        return self._best.scores(histories)
