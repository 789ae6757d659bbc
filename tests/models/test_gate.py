import numpy as np
import pytest

from models.gate import Evaluated, GateRefused, SliceOverlaps, judge
from streaming.ids import UserId


def evaluated(version: str, values: np.ndarray, trained_until: int = 100) -> Evaluated:
    return Evaluated(
        version, trained_until, {UserId(f"u{number}"): float(value) for number, value in enumerate(values)}
    )


@pytest.fixture
def values() -> np.ndarray:
    seed = 5
    print("seed", seed)  # noqa: T201
    return np.random.default_rng(seed).beta(2, 6, 2_000)


def test_an_equal_model_passes(values: np.ndarray) -> None:
    assert judge(evaluated("b", values), evaluated("a", values), 100, seed=1).passed


def test_a_model_that_lost_five_percent_fails(values: np.ndarray) -> None:
    verdict = judge(evaluated("b", values * 0.95), evaluated("a", values), 100, seed=1)
    assert verdict.outcome == "fail"
    assert verdict.relative_difference == pytest.approx(-0.05, abs=1e-9)
    with pytest.raises(GateRefused, match=r"relative NDCG@10 -0\.050"):
        verdict.require(None)
    verdict.require("the catalogue changed, the slice is not representative")


def test_fewer_than_five_hundred_users_are_no_pass(values: np.ndarray) -> None:
    verdict = judge(evaluated("b", values[:499] + 0.5), evaluated("a", values[:499]), 100, seed=1)
    assert (verdict.outcome, verdict.passed) == ("insufficient data", False)


def test_only_users_of_both_are_compared(values: np.ndarray) -> None:
    assert judge(evaluated("b", values[:700]), evaluated("a", values), 100, seed=1).users == 700


@pytest.mark.parametrize("late", ["a", "b"])
def test_a_slice_that_a_model_was_trained_on_is_refused(values: np.ndarray, late: str) -> None:
    models = {name: evaluated(name, values, trained_until=101 if name == late else 50) for name in ("a", "b")}
    with pytest.raises(SliceOverlaps, match=f"model '{late}'"):
        judge(models["b"], models["a"], 100, seed=1)


def test_the_first_model_needs_a_reason(values: np.ndarray) -> None:
    verdict = judge(evaluated("b", values), None, 100, seed=1)
    assert verdict.outcome == "no champion"
    with pytest.raises(GateRefused):
        verdict.require(None)
