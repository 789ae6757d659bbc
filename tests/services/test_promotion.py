from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.config import GateSettings
from models.gate import Evaluated, GateRefused, Verdict, judge
from models.registry import Registry
from services.promotion import Candidacy, candidates, promote
from streaming.ids import UserId
from streaming.namespace import Namespace

USERS = 1_000
LIMITS = GateSettings()
_REASON = "the chain has to begin somewhere"


class Chain:
    """A registry and what the gate would measure of its models, by version."""

    def __init__(self, folder: Path) -> None:
        self.registry = Registry(str(folder / "registry"), Namespace("shop"))
        self._empty = folder / "artifact"
        self._empty.mkdir()
        self._measured: dict[str, Evaluated] = {}

    def add(self, version: str, values: NDArray[np.float64]) -> None:
        by_user = {UserId(f"u{number}"): float(value) for number, value in enumerate(values)}
        self._measured[version] = Evaluated(version, 0, by_user, 50)
        self.registry.add(self._empty, version)

    def promote(self, version: str, reason: str | None = None) -> None:
        """Promote as the gate says, by force when there is a reason."""
        candidacy = Candidacy(version, self.registry.next_number(), self.judge(version))
        promote(self.registry, candidacy, reason is not None, reason, 1)

    def judge(self, version: str) -> Verdict:
        opponents = self.registry.opponents(LIMITS.reference_every)
        theirs = {role: self._measured[opponent] for role, opponent in opponents.items()}
        return judge(self._measured[version], theirs, 0, LIMITS, seed=1)


@pytest.fixture
def rng() -> np.random.Generator:
    seed = 6
    print("seed", seed)  # noqa: T201
    return np.random.default_rng(seed)


@pytest.mark.parametrize("before", [1, 9, 10, 15])
def test_a_chain_of_ten_models_that_each_lose_one_percent_is_stopped(
    before: int, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Each would pass against its champion; wherever in the ten the chain begins, the reference ends it."""
    chain, values = Chain(tmp_path), rng.beta(2, 6, USERS)
    chain.add("good", values)
    for _ in range(before):
        chain.promote("good", _REASON)
    refused = None
    for number in range(1, 11):
        chain.add(f"worse{number}", values * 0.99**number + rng.normal(scale=0.005, size=USERS))
        verdict = chain.judge(f"worse{number}")
        assert verdict.against["champion"].outcome == "pass"
        if not verdict.passed:
            refused = verdict
            break
        chain.promote(f"worse{number}")
    assert refused is not None
    assert refused.against["reference"].outcome == "fail"
    with pytest.raises(GateRefused, match="reference: fail"):
        chain.promote(f"worse{number}")
    assert number <= 3  # one more than without a tenth promotion within the chain


def test_the_record_keeps_the_verdict_and_what_was_compared(tmp_path: Path, rng: np.random.Generator) -> None:
    chain, values = Chain(tmp_path), rng.beta(2, 6, USERS)
    for number, version in enumerate(("first", "second", "third")):
        chain.add(version, values * (1 + number / 100))
        chain.promote(version, None if number else _REASON)
    first, _, third = chain.registry.history()
    assert (first.gate["outcome"], first.reason) == ("no champion", _REASON)
    assert (third.gate["outcome"], third.reason) == ("pass", None)
    compared = {role: (found["model_version"], found["users"]) for role, found in third.gate["against"].items()}
    assert compared == {"champion": ("second", USERS), "reference": ("first", USERS)}
    assert third.gate["against"]["reference"]["relative_difference"] == pytest.approx(0.02)
    assert third.gate["against"]["reference"]["coverage"] == 1.0


def test_the_newest_model_that_is_younger_than_the_champion_is_the_candidate(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    chain, values = Chain(tmp_path), rng.beta(2, 6, USERS)
    assert candidates(chain.registry) == []
    for version in ("20260102t000000-b", "20260101t000000-a", "20260103t000000-c"):
        chain.add(version, values)
    assert candidates(chain.registry)[0] == "20260103t000000-c"
    chain.promote("20260102t000000-b", _REASON)
    assert candidates(chain.registry)[0] == "20260103t000000-c"
    chain.promote("20260103t000000-c", _REASON)
    assert candidates(chain.registry) == []  # what is older than the champion was passed over
    chain.registry.rollback(1, "worse")
    assert candidates(chain.registry) == []  # and what was rolled back is not tried again by itself
