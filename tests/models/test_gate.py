import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from models.config import GateSettings
from models.gate import Evaluated, GateRefused, SliceOverlaps, Unreadable, Verdict, judge
from streaming.ids import UserId

USERS, ITEMS = 1_000, 200
LIMITS = GateSettings()
Values = NDArray[np.float64]


def evaluated(version: str, values: Values, trained_until: int = 100, coverage10: int = 50) -> Evaluated:
    by_user = {UserId(f"u{number}"): float(value) for number, value in enumerate(values)}
    return Evaluated(version, trained_until, by_user, coverage10)


def judged(candidate: Evaluated, **opponents: Evaluated) -> Verdict:
    return judge(candidate, opponents, 100, LIMITS, seed=1)


def ndcg10(scores: NDArray[np.float64]) -> Values:
    """Each user's NDCG@10 when item 0 is the one target, by scores of users by items."""
    above = (scores[:, 1:] > scores[:, :1]).sum(axis=1)
    return np.where(above < 10, 1 / np.log2(above + 2), 0.0)


@pytest.fixture
def rng() -> np.random.Generator:
    seed = 5
    print("seed", seed)  # noqa: T201
    return np.random.default_rng(seed)


@pytest.fixture
def values(rng: np.random.Generator) -> Values:
    return rng.beta(2, 6, USERS)


def test_an_equal_model_passes(values: Values) -> None:
    assert judged(evaluated("b", values), champion=evaluated("a", values)).passed


def test_a_model_that_lost_five_percent_fails(values: Values) -> None:
    verdict = judged(evaluated("b", values * 0.95), champion=evaluated("a", values))
    assert verdict.outcome == "fail"
    assert verdict.against["champion"].relative_difference == pytest.approx(-0.05, abs=1e-9)
    with pytest.raises(GateRefused, match=r"relative NDCG@10 -0\.050"):
        verdict.require(False)
    verdict.require(True)


def test_a_noise_degraded_model_is_refused(rng: np.random.Generator) -> None:
    scores = rng.normal(size=(USERS, ITEMS))
    scores[:, 0] += 2
    champion, again = evaluated("a", ndcg10(scores)), evaluated("b", ndcg10(scores))
    noisy = evaluated("c", ndcg10(scores + rng.normal(scale=0.5, size=scores.shape)))
    assert judged(again, champion=champion).passed
    verdict = judged(noisy, champion=champion)
    assert verdict.outcome == "fail"
    with pytest.raises(GateRefused, match="against a, 1000 users"):
        verdict.require(False)


def test_a_model_that_is_only_probably_not_worse_is_refused(values: Values, rng: np.random.Generator) -> None:
    """Its mean is the champion's, but the users differ so much that a loss of 2 % is not excluded."""
    noise = rng.normal(scale=0.2, size=USERS)
    verdict = judged(evaluated("b", values + noise - noise.mean()), champion=evaluated("a", values))
    assert verdict.outcome == "fail"
    assert verdict.against["champion"].relative_difference == pytest.approx(0, abs=1e-9)


def test_a_loss_against_the_reference_alone_fails(values: Values) -> None:
    champion, reference = evaluated("a", values * 0.98), evaluated("r", values)
    verdict = judged(evaluated("b", values * 0.97), champion=champion, reference=reference)
    assert {role: found.outcome for role, found in verdict.against.items()} == {"champion": "pass", "reference": "fail"}
    assert verdict.outcome == "fail"


def test_fewer_than_five_hundred_users_are_no_pass(values: Values) -> None:
    few = evaluated("b", values[:499] + 0.5), evaluated("a", values[:499])
    verdict = judged(few[0], champion=few[1])
    assert (verdict.outcome, verdict.passed) == ("insufficient data", False)
    assert judged(evaluated("b", values[:500]), champion=evaluated("a", values[:500])).passed


def test_too_few_users_of_the_reference_are_no_pass(values: Values) -> None:
    both = evaluated("a", values), evaluated("r", values[:499])
    assert judged(evaluated("b", values), champion=both[0], reference=both[1]).outcome == "insufficient data"


def test_only_users_of_both_are_compared(values: Values) -> None:
    assert judged(evaluated("b", values[:700]), champion=evaluated("a", values)).against["champion"].users == 700


@pytest.mark.parametrize(("coverage10", "outcome"), [(40, "pass"), (39, "fail")])
def test_a_model_that_shows_much_fewer_items_is_refused(values: Values, coverage10: int, outcome: str) -> None:
    narrow = evaluated("b", values + 0.1, coverage10=coverage10)
    assert judged(narrow, champion=evaluated("a", values)).outcome == outcome


@pytest.mark.parametrize("late", ["a", "b", "r"])
def test_a_slice_that_a_model_was_trained_on_is_refused(values: Values, late: str) -> None:
    models = {name: evaluated(name, values, trained_until=101 if name == late else 50) for name in ("a", "b", "r")}
    with pytest.raises(SliceOverlaps, match=f"model '{late}'"):
        judged(models["b"], champion=models["a"], reference=models["r"])


def test_the_first_model_needs_a_reason(values: Values) -> None:
    verdict = judged(evaluated("b", values))
    assert verdict.outcome == "no champion"
    with pytest.raises(GateRefused, match="--force --reason"):
        verdict.require(False)


@pytest.mark.parametrize(("error", "outcome"), [(0.05, "pass"), (0.051, "fail"), (float("nan"), "fail")])
def test_probabilities_that_are_far_off_are_refused(values: Values, error: float, outcome: str) -> None:
    candidate = msgspec.structs.replace(evaluated("b", values), calibration_error=error)
    verdict = judged(candidate, champion=evaluated("a", values))
    assert verdict.outcome == outcome
    assert f"calibration error {error:.3f}, limit 0.05" in verdict.sentence()


def test_a_bad_calibration_fails_where_users_are_too_few_to_compare_ranking(values: Values) -> None:
    candidate = msgspec.structs.replace(evaluated("b", values[:10]), calibration_error=0.2)
    assert judged(candidate, champion=evaluated("a", values)).outcome == "fail"


def test_a_calibration_that_was_not_measured_is_said_and_asked_nothing_of(values: Values) -> None:
    verdict = judged(evaluated("b", values), champion=evaluated("a", values))
    assert verdict.passed
    assert "calibration was not measured" in verdict.sentence()


@pytest.mark.parametrize("role", ["champion", "reference"])
def test_an_opponent_that_cannot_be_read_is_no_pass_and_says_why(values: Values, role: str) -> None:
    models: dict[str, Evaluated | Unreadable] = {name: evaluated(name, values) for name in ("champion", "reference")}
    verdict = judge(evaluated("b", values), models | {role: Unreadable("old", "file is damaged")}, 100, LIMITS, seed=1)
    assert verdict.outcome == "unreadable"
    with pytest.raises(GateRefused, match=f"{role}: old cannot be compared with: file is damaged"):
        verdict.require(False)
    verdict.require(True)
