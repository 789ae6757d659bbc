"""The baseline of pointwise ranking: logistic regression on dense features and one-hot hashed ids.

Fitted by L-BFGS (R. Byrd, P. Lu, J. Nocedal and C. Zhu, SIAM J. Scientific Computing 16(5), 1995).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, hstack

from models.pointwise_data import PointwiseData

Floats = NDArray[np.float64]

_EXTREME = 5.0  # standard deviations beyond which an input tells no more, as the ranker has it


@dataclass(frozen=True)
class Strengths:
    """The L2 penalties: half of the strength times the squared weights, beside the summed log loss of all rows."""

    dense: float
    ids: float


class LogisticRegression:
    """The weights of standardised dense features, hashed user and item ids, and an unpenalised constant."""

    def __init__(self, data: PointwiseData, train: NDArray[np.int64], strengths: Strengths, buckets: int) -> None:
        """Fit on the acts `train` of `data`, whose ids are hashed into so many buckets."""
        dense = data.features.dense[train]
        self._mean, deviation = dense.mean(axis=0), dense.std(axis=0)
        self._deviation = np.where(deviation > 1e-6, deviation, np.inf)
        self._buckets = buckets
        width = dense.shape[1]
        penalties = np.concatenate(([0.0], np.full(width, strengths.dense), np.full(2 * buckets, strengths.ids)))
        self._weights = _fit(self._inputs(data, train), data.acts.labels[train], penalties)

    def logits(self, data: PointwiseData, part: NDArray[np.int64]) -> Floats:
        """Return float64 logits of some acts."""
        logits: Floats = self._inputs(data, part) @ self._weights
        return logits

    def _inputs(self, data: PointwiseData, part: NDArray[np.int64]) -> csr_matrix:
        scaled = ((data.features.dense[part] - self._mean) / self._deviation).clip(-_EXTREME, _EXTREME)
        users = np.array([bag[0] for bag in data.bags.user_ids])[data.acts.users[part]]
        items = np.array([bag[0] for bag in data.bags.item_ids])[data.acts.items[part]]
        parts = [np.ones((len(part), 1)), scaled.astype(np.float64), self._one_hot(users), self._one_hot(items)]
        return hstack([csr_matrix(columns) for columns in parts], format="csr")

    def _one_hot(self, buckets: NDArray[np.int64]) -> csr_matrix:
        rows = np.arange(len(buckets))
        return csr_matrix((np.ones(len(buckets)), (rows, buckets)), shape=(len(buckets), self._buckets))


def _fit(inputs: csr_matrix, labels: Floats, penalties: Floats) -> Floats:
    def loss(weights: Floats) -> tuple[float, Floats]:
        logits = inputs @ weights
        likelihood = float((np.logaddexp(0.0, logits) - labels * logits).sum())
        excess = np.exp(-np.logaddexp(0.0, -logits)) - labels
        return likelihood + 0.5 * float(penalties @ weights**2), inputs.T @ excess + penalties * weights

    found = minimize(loss, np.zeros(inputs.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 1_000})
    weights: Floats = found.x
    return weights
