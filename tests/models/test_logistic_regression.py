import labelled
import numpy as np
import pytest

from models.logistic_regression import LogisticRegression, Strengths

SEED, BUCKETS = 5, 8


def newton(inputs: np.ndarray, labels: np.ndarray, penalties: np.ndarray) -> np.ndarray:
    """Penalised logistic regression by another method, on a dense matrix."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(50):
        probabilities = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (probabilities - labels) + penalties * weights
        curvature = (inputs.T * (probabilities * (1 - probabilities))) @ inputs + np.diag(penalties)
        weights = weights - np.linalg.solve(curvature, gradient)
    return weights


def test_it_is_the_penalised_fit_of_features_and_hashed_ids() -> None:
    print("seed", SEED)  # noqa: T201
    acts = labelled.acts(SEED, count=200)
    data = labelled.data(acts, places=2)
    train, test = np.arange(150), np.arange(150, 200)
    dense = data.features.dense.astype(np.float64)
    mean, deviation = dense[train].mean(axis=0), dense[train].std(axis=0)
    varies = deviation > 1e-6
    scaled = np.clip((dense[:, varies] - mean[varies]) / deviation[varies], -5, 5)
    inputs = np.column_stack((np.ones(200), scaled, np.eye(BUCKETS)[acts.users], np.eye(BUCKETS)[acts.items]))
    penalties = np.r_[0.0, np.full(scaled.shape[1], 2.0), np.full(2 * BUCKETS, 7.0)]
    weights = newton(inputs[train], acts.labels[train], penalties)
    found = LogisticRegression(data, train, Strengths(dense=2.0, ids=7.0), BUCKETS)
    assert found.logits(data, test) == pytest.approx(inputs[test] @ weights, abs=0.01)


def test_the_strongest_penalty_leaves_the_rate() -> None:
    acts = labelled.acts(SEED, count=200)
    data, rows = labelled.data(acts, places=2), np.arange(200)
    logits = LogisticRegression(data, rows, Strengths(1e9, 1e9), BUCKETS).logits(data, rows)
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(np.full(200, acts.labels.mean()), abs=1e-3)
