import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from models.calibration import (
    Calibrator,
    NotCalibrated,
    error_by_chance,
    expected_calibration_error,
    fit_calibrator,
    reliability,
)

SEED = 11

logits_and_labels = st.lists(
    st.tuples(st.floats(-50, 50), st.booleans(), st.floats(0.01, 10)), min_size=1, max_size=40
).map(lambda rows: tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True)))

predictions = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60).map(
    lambda rows: tuple(np.array(column, dtype=float) for column in zip(*rows, strict=True))
)


def test_a_known_distortion_is_undone() -> None:
    print("seed", SEED)  # noqa: T201
    rng = np.random.default_rng(SEED)
    truth = rng.normal(0, 1.5, 200_000)
    labels = rng.random(len(truth)) < 1 / (1 + np.exp(-truth))
    fitted = fit_calibrator(3 * truth + 2, labels)
    assert fitted.scale == pytest.approx(1 / 3, abs=0.01)
    assert fitted.shift == pytest.approx(-2 / 3, abs=0.02)


@given(logits_and_labels)
def test_no_other_scale_and_shift_fits_better(rows: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    logits, labels, weights = rows
    fitted = fit_calibrator(logits, labels, weights)
    assert np.isfinite([fitted.scale, fitted.shift]).all()
    positive = weights[labels == 1].sum()
    targets = np.where(labels == 1, (positive + 1) / (positive + 2), 1 / (weights.sum() - positive + 2))

    def loss(at: np.ndarray) -> float:
        z = at[0] * logits + at[1]
        return float(np.average(np.logaddexp(0, z) - targets * z, weights=weights))

    ours = loss(np.array([fitted.scale, fitted.shift]))
    for start in ([0.0, 0.0], [fitted.scale, fitted.shift]):
        assert ours <= minimize(loss, start, method="Nelder-Mead").fun + 1e-6


@pytest.mark.parametrize("label", [0, 1])
def test_labels_that_are_all_equal_give_the_smoothed_rate(label: int) -> None:
    fitted = fit_calibrator([-2.0, 0.5, 3.0], [label] * 3)
    expected = 4 / 5 if label else 1 / 5
    assert fitted.apply([-2.0, 0.5, 3.0]) == pytest.approx([expected] * 3)


def test_logits_that_part_the_labels_stay_finite() -> None:
    fitted = fit_calibrator([-1.0, -2.0, 1.0, 2.0], [0, 0, 1, 1])
    assert 0 < fitted.scale < 100
    assert (np.diff(fitted.apply([-2.0, -1.0, 1.0, 2.0])) > 0).all()


def test_logits_that_do_not_vary_give_the_rate() -> None:
    fitted = fit_calibrator([7.0] * 998, [1] * 499 + [0] * 499)
    assert fitted.scale == 0
    assert fitted.apply([-100.0, 7.0, 100.0]) == pytest.approx([0.5] * 3)


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.lists(st.floats(-1e6, 1e6), max_size=20))
def test_probabilities_are_probabilities(scale: float, shift: float, logits: list[float]) -> None:
    found = Calibrator(scale, shift).apply(logits)
    assert found.shape == (len(logits),)
    assert ((found >= 0) & (found <= 1)).all()


def test_a_weight_of_two_is_the_row_twice() -> None:
    logits, labels = [0.3, -1.2, 2.0, 0.1], [1, 0, 1, 0]
    twice = fit_calibrator([*logits, 2.0], [*labels, 1])
    weighted = fit_calibrator(logits, labels, [1, 1, 2, 1])
    assert (weighted.scale, weighted.shift) == pytest.approx((twice.scale, twice.shift))


@pytest.mark.parametrize(
    ("logits", "labels", "weights", "says"),
    [
        ([], [], None, "at least one"),
        ([float("nan")], [1], None, "logits must be finite"),
        ([0.0], [float("inf")], None, "labels must be finite"),
        ([0.0], [0.5], None, "0 or 1"),
        ([0.0, 1.0], [1], None, "not of one length"),
        ([0.0, 1.0], [1, 0], [1.0], "not of one length"),
        ([0.0, 1.0], [1, 0], [-1.0, 2.0], "negative"),
        ([0.0, 1.0], [1, 0], [0.0, 0.0], "above 0"),
    ],
)
def test_what_cannot_be_fitted_is_named(
    logits: list[float], labels: list[float], weights: list[float] | None, says: str
) -> None:
    with pytest.raises(NotCalibrated, match=says):
        fit_calibrator(logits, labels, weights)


def test_reliability_of_a_worked_example() -> None:
    rows = reliability([0.9, 0.1, 0.2, 0.8], [1, 0, 1, 1], bins=2)
    assert [(row.prediction, row.rate, row.count) for row in rows] == [
        (pytest.approx(0.15), 0.5, 2),
        (pytest.approx(0.85), 1.0, 2),
    ]
    assert expected_calibration_error([0.9, 0.1, 0.2, 0.8], [1, 0, 1, 1], bins=2) == pytest.approx(0.25)


@pytest.mark.parametrize(("rows", "bins"), [(100, 1), (1_000, 1), (10_000, 10)])
def test_chance_alone_shows_what_a_coin_s_share_is_off_by(rows: int, bins: int) -> None:
    print("seed", SEED)  # noqa: T201
    spread = np.linspace(0.4999, 0.5001, rows)  # or the bins were one
    # The share of heads is about normal, with a mean distance of its deviation times the root of 2 / pi.
    expected = 0.5 / np.sqrt(rows / bins) * np.sqrt(2 / np.pi)
    assert error_by_chance(spread, SEED, bins) == pytest.approx(expected, rel=0.15)


@given(predictions, st.integers(1, 12))
def test_bins_hold_all_rows_in_equal_numbers(rows: tuple[np.ndarray, np.ndarray], bins: int) -> None:
    probabilities, labels = rows
    found = reliability(probabilities, labels, bins)
    counts = [row.count for row in found]
    assert sum(counts) == len(labels)
    assert max(counts) - min(counts) <= 1
    assert sum(row.count * row.rate for row in found) == pytest.approx(labels.sum())
    assert sum(row.count * row.prediction for row in found) == pytest.approx(probabilities.sum())
    assert [row.prediction for row in found] == pytest.approx(sorted(row.prediction for row in found))


@given(predictions, st.integers(1, 12), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: tuple[np.ndarray, np.ndarray], bins: int, random: object) -> None:
    probabilities, labels = rows
    order = np.random.default_rng(random.randint(0, 2**32)).permutation(len(labels))  # type: ignore[attr-defined]
    mixed = expected_calibration_error(probabilities[order], labels[order], bins)
    error = expected_calibration_error(probabilities, labels, bins)
    assert mixed == pytest.approx(error)
    assert abs(probabilities.mean() - labels.mean()) - 1e-9 <= error <= 1


def test_a_perfect_model_of_10_000_rows_shows_about_one_percent() -> None:
    print("seed", SEED)  # noqa: T201
    rng = np.random.default_rng(SEED)
    errors = []
    for _ in range(20):
        probabilities = rng.uniform(0.2, 0.9, 10_000)
        errors.append(expected_calibration_error(probabilities, rng.random(10_000) < probabilities))
    assert 0.008 < np.mean(errors) < 0.014


@pytest.mark.parametrize(
    ("probabilities", "labels", "says"),
    [
        ([], [], "at least one"),
        ([1.2], [1], "between 0 and 1"),
        ([0.5, 0.5], [1], "one length"),
        ([0.5], [2], "0 or 1"),
    ],
)
def test_what_has_no_reliability_is_named(probabilities: list[float], labels: list[float], says: str) -> None:
    with pytest.raises(NotCalibrated, match=says):
        reliability(probabilities, labels)
