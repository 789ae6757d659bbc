"""The short version of the fault suite: one run with real processes; `fault_run.py` beside it is the long one."""

import os
from pathlib import Path

import pytest
from fault_scenario import run_scenario

SEED = int(os.environ.get("FAULTS_SEED", "1"))
FAULTS = ("broker_killed", "poison", "updater_killed", "duplicates", "collector_killed", "connections_reset")


@pytest.mark.timeout(600)
def test_through_faults_nothing_is_lost_doubled_or_reordered_and_the_audit_balances(tmp_path: Path) -> None:
    print("seed", SEED, FAULTS)
    outcome = run_scenario(tmp_path, SEED, FAULTS, longest_s=4, report=print)
    print(outcome)
    assert outcome.counts["acknowledged"] > 100
    assert outcome.counts["dead"] == 4
    assert outcome.restarts.keys() >= {"updater", "collector"}, "what was killed was started again"
